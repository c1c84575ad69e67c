/* Which instructions a process has run. */
#ifndef SWT_PTX_COVER_H
#define SWT_PTX_COVER_H

namespace ptx {

/* Read all kernels of the program. */
void load_program();

/* When the process ends, note what ran in the file that SWT_PTX_COVER names, if it does. */
void cover_at_exit();

} // namespace ptx

#endif
