/* Functions that a CUDA kernel may call as well as the host. */
#ifndef SWT_BASE_ON_ANY_H
#define SWT_BASE_ON_ANY_H

#ifdef __CUDACC__
#define SWT_ON_ANY __host__ __device__
#else
#define SWT_ON_ANY
#endif

#endif
