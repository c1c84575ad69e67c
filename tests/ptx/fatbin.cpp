#include "tests/ptx/fatbin.h"

#include "tests/emu/emu.h"

#include <string.h>

namespace ptx {

/* What objects register: where the binary is. */
struct wrapper {
    uint32_t magic, version;
    const uint8_t *data;
    void *unused;
};

/* At its beginning, and before each of its entries; numbers as this processor has them. */
struct head {
    uint32_t magic;
    uint16_t version, bytes; /* of this head */
    uint64_t entries_bytes;
};
struct entry {
    uint16_t kind, version;
    uint32_t bytes; /* of this head; the contents follow */
    uint64_t contents_bytes;
};

enum { PTX_ENTRY = 1 };
constexpr uint32_t WRAPPER_MAGIC = 0x466243b1, HEAD_MAGIC = 0xba55ed50;

std::string ptx_of(const void *registered) {
    wrapper w = {};
    head h = {};
    memcpy(&w, registered, sizeof w);
    if (w.magic != WRAPPER_MAGIC)
        swt_emu_stop("PTX: what an object registers is no fat binary");
    memcpy(&h, w.data, sizeof h);
    if (h.magic != HEAD_MAGIC)
        swt_emu_stop("PTX: a fat binary of another form");
    entry e = {};
    const uint8_t *const begin = w.data + h.bytes, *const end = begin + h.entries_bytes;
    for (const uint8_t *at = begin; at + sizeof e <= end; at += e.bytes + e.contents_bytes) {
        memcpy(&e, at, sizeof e);
        if (e.kind != PTX_ENTRY)
            continue;
        const std::string text(reinterpret_cast<const char *>(at + e.bytes), e.contents_bytes);
        if (text.find(".version") == std::string::npos)
            swt_emu_stop("PTX: the fat binary is compressed; nvcc needs --no-compress");
        return text;
    }
    swt_emu_stop("PTX: a fat binary without PTX; nvcc needs code=compute_N");
}

} // namespace ptx
