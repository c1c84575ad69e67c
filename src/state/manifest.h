/* manifest.json, the last file of a checkpoint that is written: what the checkpoint is of, and a
 * hash of every byte of it. Anybody can check it: each hash is XXH3 (64 bits, xxhsum -H3), of a
 * file the whole of it, and the manifest's own, in its last but one line, is that of all lines
 * before that one.
 *
 * A manifest is untrusted input: names in it lead nowhere but to its own folder, sizes allocate
 * nothing, unknown, missing and double keys are refused. */
#ifndef SWT_STATE_MANIFEST_H
#define SWT_STATE_MANIFEST_H

#include "base/status.h"
#include "io/safetensors.h"

#include <stdbool.h>
#include <stdint.h>

/* The format that is written, and the only one that is read. */
enum { SWT_MANIFEST_FORMAT = 1 };

typedef struct swt_manifest_file {
    char name[SWT_FILE_NAME_BYTES]; /* without folders */
    int64_t bytes;
    uint64_t hash;
} swt_manifest_file;

/* A key of the resolved configuration and its value, as config.yaml has it, without quotes. */
typedef struct swt_manifest_key {
    const char *key, *value;
} swt_manifest_key;

typedef struct swt_manifest {
    int64_t step;            /* updates done */
    int64_t skipped;         /* of those, left out: their gradients were bad */
    bool evaluated;          /* there is a valid_loss of this step */
    double valid_loss;       /* nats per target */
    const char *data_path;   /* the text, for people: it may have moved */
    uint64_t train_hash;     /* of the token ids that training reads, I32 */
    uint64_t valid_hash;     /* and of those that evaluation reads */
    int64_t position_tokens; /* consumed by the updates */
    uint64_t ledger;         /* chain of the ledger's last line up to the step */
    int64_t key_count, file_count, tensor_count;
    swt_manifest_key *keys;    /* (key_count), owned, in the order of the options' table */
    swt_manifest_file *files;  /* (file_count), owned, sorted by name: all but the manifest */
    swt_tensor_entry *tensors; /* (tensor_count), owned, sorted by name; offset_bytes from the start
                                  of files[file] */
    void *tree;                /* what the texts are part of, owned where it was read */
} swt_manifest;

/* Read and check a manifest.json: its form and its own hash; the other files are not looked at.
 * Errors: CHECKPOINT, naming the file and what of it is wrong. */
SWT_MUST_CHECK swt_status swt_manifest_read(swt_manifest *out, const char *path);

/* Write a new file. Files and tensors are sorted first. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_manifest_write(swt_manifest *m, const char *path);

void swt_manifest_fini(swt_manifest *m);

/* The entry of that name, NULL if there is none. */
const swt_manifest_file *swt_manifest_file_of(const swt_manifest *m, const char *name);
const swt_tensor_entry *swt_manifest_tensor(const swt_manifest *m, const char *name);

/* The value of a key of the configuration, NULL if there is none. */
const char *swt_manifest_value(const swt_manifest *m, const char *key);

/* The folder holds the manifest's files, each of its size; their contents are not read, nor what
 * else is there. Errors: CHECKPOINT, naming the first file that is missing or of another size. */
SWT_MUST_CHECK swt_status swt_manifest_check_files(const swt_manifest *m, const char *folder);

/* Verify a checkpoint folder wholly: its manifest, which *out gets (the caller gives it back also
 * after an error), and every byte of every file against it. `said` is called for each defect, with
 * a line that names file and tensor; NULL: only the first is reported, as the error.
 * Errors: CHECKPOINT for the first defect; MEMORY. */
typedef void (*swt_defect_said)(void *context, const char *line);
SWT_MUST_CHECK swt_status swt_manifest_verify(swt_manifest *out, const char *folder,
                                              swt_defect_said said, void *context);

/* XXH3 of a whole file, and its size. Errors: `status`. */
SWT_MUST_CHECK swt_status swt_hash_file(const char *path, int64_t *bytes, uint64_t *hash,
                                        swt_status status);

/* The whole file, read again from the disk, has this hash. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_hash_check(const char *path, uint64_t hash);

#endif
