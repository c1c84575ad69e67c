/* The emulated NCCL where there is no MPI to carry it: a rank alone, which never calls it. */
#include "tests/emu/emu.h"

#include <nccl.h>

/* Parameters do not matter to the linker; the header's declarations would have to be repeated. */
#define NONE(name)                                                                                 \
    _Static_assert(sizeof &(name) > 0, "declared in nccl.h");                                      \
    extern ncclResult_t none_##name(void) __asm__(#name);                                          \
    ncclResult_t none_##name(void) {                                                               \
        swt_emu_stop(#name ": this build emulates NCCL for one rank alone (SWT_MPI=OFF)");         \
    }

NONE(ncclGetVersion)
NONE(ncclGetUniqueId)
NONE(ncclCommInitRankConfig)
NONE(ncclCommSplit)
NONE(ncclCommFinalize)
NONE(ncclCommDestroy)
NONE(ncclCommAbort)
NONE(ncclCommGetAsyncError)
NONE(ncclGroupStart)
NONE(ncclGroupEnd)
NONE(ncclSend)
NONE(ncclRecv)
NONE(ncclAllReduce)
NONE(ncclAllGather)
NONE(ncclBroadcast)
NONE(ncclGetErrorString)
NONE(ncclGetLastError)
