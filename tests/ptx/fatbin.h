/* Fat binaries, as nvcc puts them into objects. */
#ifndef SWT_PTX_FATBIN_H
#define SWT_PTX_FATBIN_H

#include <string>

namespace ptx {

/* The first text in PTX of a fat binary, by the structure that an object registers. */
std::string ptx_of(const void *wrapper);

} // namespace ptx

#endif
