/* What the machine can do, to measure operations by. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

/* Floating-point operations per second, in 1e9, of multiply-adds on registers by so many threads at
 * once, in the widest vectors of the processor. */
double machine_product_gflops(int threads);

/* Bytes read and written per second, in 1e9, of a copy of memory far larger than the caches by so
 * many threads at once; 0 if there is no memory for it. */
double machine_copy_gbps(int threads);

#endif
