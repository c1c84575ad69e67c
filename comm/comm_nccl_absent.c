/* What stands in comm_nccl.c's place in builds without CUDA. */
#include "comm/swt_comm.h"

bool swt_comm_nccl_shares_gpus(void) {
    return false;
}

swt_status swt_comm_open_nccl(swt_comm *out, swt_comm *host, swt_device *device) {
    (void)out, (void)host, (void)device;
    return SWT_FAIL(USAGE,
                    "nccl: this program was built without CUDA; build it with cmake --preset "
                    "cuda, or use --device cpu");
}
