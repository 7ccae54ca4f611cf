/* checkpoint.h - weights as they lie on disk, shown under Hugging Face names.
 *
 * Reads a Hugging Face directory (config.json with model.safetensors or an indexed set of shards), a single
 * .safetensors file (config.json beside it if there is one), or a GGUF v3 file.  Files are mapped; nothing is copied until a
 * row is asked for.  A GGUF file's metadata is shown as the config.json its model would have, its tensors under
 * the names and in the row order of Hugging Face (q and k rows of architecture `llama` are un-permuted). */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"

enum { LRT_MAX_RANK = 4 };

/* Element types of tensors on disk; `dtypes.def` gives name, block elements and block bytes. */
typedef enum LrtDtype {
#define DTYPE(id, name, block, bytes) LRT_##id,
#include "runtime/dtypes.def"
    LRT_DTYPE_COUNT
} LrtDtype;

typedef struct LrtTensor {
    const char *name;            /* Hugging Face name */
    LrtDtype dtype;
    int rank;
    int64_t shape[LRT_MAX_RANK]; /* row-major, slowest first */
    const uint8_t *data;         /* mapped bytes */
    size_t bytes;
    int rotary_heads;            /* > 0: rows are stored with rotary pairs adjacent in this many heads */
    bool flipped;                /* stored as the transpose of `shape` (GGUF files of gpt2) */
} LrtTensor;

typedef struct LrtCheckpoint LrtCheckpoint;

/* Opens PATH (directory, .safetensors or .gguf).  NULL with `error` filled on any defect. */
LrtCheckpoint *lrt_checkpoint_open(const char *path, LrtError *error);
void lrt_checkpoint_close(LrtCheckpoint *checkpoint);

const char *lrt_checkpoint_path(const LrtCheckpoint *checkpoint);
/* The config as a JSON object; NULL when a lone .safetensors has no config.json.  Borrowed. */
const json_t *lrt_checkpoint_config(const LrtCheckpoint *checkpoint);
int lrt_checkpoint_count(const LrtCheckpoint *checkpoint);
const LrtTensor *lrt_checkpoint_tensor(const LrtCheckpoint *checkpoint, int index);
/* NULL when there is none of this exact name. */
const LrtTensor *lrt_checkpoint_find(const LrtCheckpoint *checkpoint, const char *name);
/* File of the tokenizer: DIR/tokenizer.json, else DIR/vocab.txt, or the GGUF itself; NULL when there is none.  Borrowed. */
const char *lrt_checkpoint_tokenizer_path(const LrtCheckpoint *checkpoint);
/* The identity of a base model: 64-bit xxHash (XXH3) of names, types, shapes and bytes of all tensors; of tensors over 64 KiB
 * 16 pieces of 4 KiB, so that a large file is not read twice. */
uint64_t lrt_checkpoint_hash(const LrtCheckpoint *checkpoint);

/* 16 hexadecimal digits. */
enum { LRT_HASH_TEXT = 17 };
void lrt_hash_text(uint64_t hash, char text[LRT_HASH_TEXT]);

/* Rows [first, first + count) along the slowest axis as f32, in Hugging Face order; a rank-1 tensor is one row.
 * `out` holds count * (elements of a row) floats.  Integer types are converted. */
bool lrt_tensor_read_rows(const LrtTensor *tensor, int64_t first, int64_t count, float *out, LrtError *error);
/* Elements as 64-bit integers (types I64, I32, U8, BOOL); false with an error for other types. */
bool lrt_tensor_read_integers(const LrtTensor *tensor, int64_t *out, LrtError *error);
int64_t lrt_tensor_elements(const LrtTensor *tensor);
/* How many rows lrt_tensor_read_rows reads at most, and the elements of one. */
int64_t lrt_tensor_rows(const LrtTensor *tensor);
int64_t lrt_tensor_width(const LrtTensor *tensor);
/* The tensor of this name in a list; NULL when there is none. */
LrtTensor *lrt_tensor_named(LrtTensor *tensors, int count, const char *name);
/* Tells the kernel that the mapped pages of this tensor are not needed any more. */
void lrt_tensor_forget(const LrtTensor *tensor);

const char *lrt_dtype_name(LrtDtype dtype); /* safetensors' spelling; GGUF's for block types */

/* --- safetensors, one file ------------------------------------------------------------------------------- */

typedef struct LrtSafetensors LrtSafetensors;
LrtSafetensors *lrt_safetensors_open(const char *path, LrtError *error);
LrtSafetensors *lrt_safetensors_open_memory(const void *data, size_t size, LrtError *error); /* borrows the bytes */
void lrt_safetensors_close(LrtSafetensors *file);
int lrt_safetensors_count(const LrtSafetensors *file);
const LrtTensor *lrt_safetensors_tensor(const LrtSafetensors *file, int index);
const LrtTensor *lrt_safetensors_find(const LrtSafetensors *file, const char *name);
/* Other views of the file's data in place of its tensors; the file owns them and the array of their names from now on. */
void lrt_safetensors_replace(LrtSafetensors *file, LrtTensor *tensors, int count, json_t *names);
bool lrt_safetensors_replaced(const LrtSafetensors *file);
/* Value of a key of `__metadata__`, or NULL. */
const char *lrt_safetensors_metadata(const LrtSafetensors *file, const char *key);

/* Writes F32 / I32 / I64 tensors atomically (temporary name, fsync, rename), in the order and layout of the
 * safetensors library, metadata {"format":"pt"} plus `metadata` pairs (key, value, key, value, ..., NULL).
 * Tensors are given with name, dtype, rank, shape, data; bytes is ignored. */
bool lrt_safetensors_write(const char *path, const LrtTensor *tensors, int count, const char *const *metadata,
                           LrtError *error);
/* The same; rows of f32 tensors without data come from `read`, some at a time. */
typedef bool LrtRowReader(void *user, const LrtTensor *tensor, int64_t first, int64_t count, float *rows, LrtError *error);
bool lrt_safetensors_write_rows(const char *path, const LrtTensor *tensors, int count, const char *const *metadata, LrtRowReader *read,
                                void *user, LrtError *error);

/* --- whole files -------------------------------------------------------------------------------------------- */

/* Writes `size` bytes to PATH atomically: temporary name beside it, fsync, rename, fsync of the directory. */
bool lrt_file_write(const char *path, const void *data, size_t size, LrtError *error);
/* Reads a JSON file; duplicate keys, trailing text, depth and size limits are errors that name line and column. */
json_t *lrt_json_read(const char *path, LrtError *error);
