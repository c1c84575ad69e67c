/* The processor cores that this process may use. */
#ifndef SWT_BASE_CORES_H
#define SWT_BASE_CORES_H

/* The affinity mask as bytes, for comparing with another process's. */
typedef struct swt_cores {
    unsigned char mask[128];
} swt_cores;

/* Fill in the mask and return the number of cores in it, at least 1 (1 where it cannot be read). */
int swt_cores_allowed(swt_cores *out);

#endif
