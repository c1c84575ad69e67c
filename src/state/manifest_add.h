/* What every manifest lists that is written here beside its tensors. */
#ifndef SWT_STATE_MANIFEST_ADD_H
#define SWT_STATE_MANIFEST_ADD_H

#include "options/options.h"
#include "state/manifest.h"

/* One more file of the folder, which is there; m->files has room for it. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_manifest_add_file(swt_manifest *m, const char *folder,
                                                const char *name);

/* All keys of the options, and from them the text's path. Errors: MEMORY. */
SWT_MUST_CHECK swt_status swt_manifest_add_options(swt_manifest *m, const swt_options *o);

#endif
