/* The commands beside training (swt_command_train of train/session.h): they read, compute and
 * answer, and write no run. All are collective; of the session, options, world, streams and
 * signals are given, all else is zero. */
#ifndef SWT_COMMANDS_COMMANDS_H
#define SWT_COMMANDS_COMMANDS_H

#include "train/session.h"

SWT_MUST_CHECK swt_status swt_command_eval(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_generate(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_plan(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_probe(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_checkpoint_list(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_checkpoint_verify(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_checkpoint_diff(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_checkpoint_import(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_checkpoint_export(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_audit(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_replay(swt_session *s);
SWT_MUST_CHECK swt_status swt_command_bisect(swt_session *s);

#endif
