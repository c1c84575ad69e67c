/* The emulated platform's inside, which is C, for C++. */
#ifndef SWT_PTX_CORE_H
#define SWT_PTX_CORE_H

#include "tests/emu/emu.h"

extern "C" {
#include "tests/emu/emu_core.h"
}

#endif
