/* checkpoint.c - one view on Hugging Face directories, single safetensors files and GGUF files. */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "runtime/checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/gguf.h"
#include "runtime/gguf_names.h"

enum { SHARDS_MAX = 4096 };

struct LrtCheckpoint {
    char *path, *tokenizer;
    json_t *config;
    LrtSafetensors **shards;
    int shard_count;
    GgufFile *gguf;
    const LrtTensor **tensors; /* sorted by name */
    LrtTensor *renamed;        /* GGUF: tensors under their other names */
    int count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const LrtTensor *const *)a)->name, (*(const LrtTensor *const *)b)->name);
}

/* --- safetensors ---------------------------------------------------------------------------------------------------- */

static bool add_shard(LrtCheckpoint *c, const char *path, LrtError *error)
{
    LrtSafetensors *shard = lrt_safetensors_open(path, error);
    if (!shard)
        return false;
    c->shards[c->shard_count++] = shard;
    const LrtTensor **more = realloc(c->tensors, sizeof *more * (size_t)(c->count + lrt_safetensors_count(shard) + 1));
    if (!more)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    c->tensors = more;
    for (int i = 0; i < lrt_safetensors_count(shard); i++)
        c->tensors[c->count++] = lrt_safetensors_tensor(shard, i);
    return true;
}

static bool shard_known(char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], name))
            return true;
    return false;
}

/* model.safetensors.index.json: {"weight_map": {tensor: file}}. */
static bool open_index(LrtCheckpoint *c, const char *directory, const char *index, LrtError *error)
{
    json_t *root = lrt_json_read(index, error), *map = json_object_get(root, "weight_map"), *file;
    char *names[SHARDS_MAX];
    int count = 0;
    bool ok = root != NULL;
    const char *tensor;
    if (ok && !json_is_object(map))
        ok = lrt_fail(error, LRT_INVALID, "%s: no \"weight_map\"", index);
    json_object_foreach(map, tensor, file) {
        const char *name = json_string_value(file);
        if (!ok)
            break;
        if (!name || strchr(name, '/') || !strcmp(name, "..") || count == SHARDS_MAX)
            ok = lrt_fail(error, LRT_INVALID, "%s: the file of tensor '%s' is not a plain file name", index, tensor);
        else if (!shard_known(names, count, name))
            names[count++] = (char *)name;
    }
    if (ok && count == 0)
        ok = lrt_fail(error, LRT_INVALID, "%s: \"weight_map\" is empty", index);
    for (int i = 0; ok && i < count; i++) {
        char *path = lrt_path_join(directory, names[i]);
        ok = path ? add_shard(c, path, error) : lrt_fail(error, LRT_FAILED, "out of memory");
        free(path);
    }
    if (ok) {
        qsort(c->tensors, (size_t)c->count, sizeof *c->tensors, by_name);
        json_object_foreach(map, tensor, file)
            if (ok && !lrt_checkpoint_find(c, tensor))
                ok = lrt_fail(error, LRT_INVALID, "%s: tensor '%s' is not in '%s'", index, tensor, json_string_value(file));
    }
    json_decref(root);
    return ok;
}

/* The tokenizer of a directory: tokenizer.json, or the vocab.txt of older BERTs; none is no error. */
static bool find_tokenizer(LrtCheckpoint *c, const char *directory, LrtError *error)
{
    static const char *const names[] = {"tokenizer.json", "vocab.txt"};
    for (int i = 0; i < 2 && !c->tokenizer; i++) {
        char *path = lrt_path_join(directory, names[i]);
        if (!path)
            return lrt_fail(error, LRT_FAILED, "out of memory");
        if (lrt_file_exists(path))
            c->tokenizer = path;
        else
            free(path);
    }
    return true;
}

static bool open_directory(LrtCheckpoint *c, const char *path, LrtError *error)
{
    char *config = lrt_path_join(path, "config.json"), *single = lrt_path_join(path, "model.safetensors");
    char *index = lrt_path_join(path, "model.safetensors.index.json");
    bool ok = config && single && index;
    if (!ok)
        lrt_report(error, LRT_FAILED, "out of memory");
    else
        ok = (c->config = lrt_json_read(config, error)) != NULL;
    if (ok && !json_is_object(c->config))
        ok = lrt_fail(error, LRT_INVALID, "%s: not a JSON object", config);
    if (ok && lrt_file_exists(single))
        ok = add_shard(c, single, error);
    else if (ok && lrt_file_exists(index))
        ok = open_index(c, path, index, error);
    else if (ok)
        ok = lrt_fail(error, LRT_INVALID, "%s: neither model.safetensors nor model.safetensors.index.json in it", path);
    ok = ok && find_tokenizer(c, path, error);
    free(config), free(single), free(index);
    return ok;
}

/* A lone file: what lies beside it is used if it is there. */
static bool open_single(LrtCheckpoint *c, const char *path, LrtError *error)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
    char *config = directory ? lrt_path_join(directory, "config.json") : NULL;
    bool ok = config ? add_shard(c, path, error) : lrt_fail(error, LRT_FAILED, "out of memory");
    if (ok && lrt_file_exists(config))
        ok = (c->config = lrt_json_read(config, error)) != NULL;
    ok = ok && find_tokenizer(c, directory, error);
    free(directory), free(config);
    return ok;
}

/* --- GGUF ------------------------------------------------------------------------------------------------------------- */

static bool open_gguf(LrtCheckpoint *c, const char *path, LrtError *error)
{
    c->gguf = gguf_open(path, error);
    if (!c->gguf)
        return false;
    c->renamed = calloc((size_t)c->gguf->tensor_count + 1, sizeof *c->renamed);
    c->tensors = calloc((size_t)c->gguf->tensor_count + 1, sizeof *c->tensors);
    c->tokenizer = strdup(path);
    if (!c->renamed || !c->tensors || !c->tokenizer)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    if (!(c->config = gguf_config(c->gguf, error)) || !gguf_rename(c->gguf, c->renamed, &c->count, error))
        return false;
    for (int i = 0; i < c->count; i++)
        c->tensors[i] = &c->renamed[i];
    return true;
}

/* --- interface ----------------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t t = strlen(text), n = strlen(end);
    return n <= t && !strcmp(text + t - n, end);
}

static bool open_any(LrtCheckpoint *c, const char *path, LrtError *error)
{
    if (lrt_is_directory(path))
        return open_directory(c, path, error);
    if (ends_with(path, ".gguf"))
        return open_gguf(c, path, error);
    if (ends_with(path, ".safetensors"))
        return open_single(c, path, error);
    if (!lrt_file_exists(path))
        return lrt_fail(error, LRT_INVALID, "%s: no such file or directory", path);
    return lrt_fail(error, LRT_INVALID, "%s: not a checkpoint: expected a directory, a .safetensors or a .gguf", path);
}

LrtCheckpoint *lrt_checkpoint_open(const char *path, LrtError *error)
{
    LrtCheckpoint *c = calloc(1, sizeof *c);
    if (c) {
        c->path = strdup(path);
        c->shards = calloc(SHARDS_MAX, sizeof *c->shards);
    }
    if (!c || !c->path || !c->shards) {
        lrt_report(error, LRT_FAILED, "out of memory");
        lrt_checkpoint_close(c);
        return NULL;
    }
    bool ok = open_any(c, path, error);
    if (ok)
        qsort(c->tensors, (size_t)c->count, sizeof *c->tensors, by_name);
    for (int i = 1; ok && i < c->count; i++)
        if (!strcmp(c->tensors[i - 1]->name, c->tensors[i]->name))
            ok = lrt_fail(error, LRT_INVALID, "%s: tensor '%s' occurs twice", path, c->tensors[i]->name);
    if (ok)
        return c;
    lrt_checkpoint_close(c);
    return NULL;
}

void lrt_checkpoint_close(LrtCheckpoint *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->shard_count; i++)
        lrt_safetensors_close(c->shards[i]);
    for (int i = 0; c->renamed && i < c->count; i++)
        free((char *)c->renamed[i].name);
    gguf_close(c->gguf);
    json_decref(c->config);
    free(c->renamed);
    free(c->shards);
    free(c->tensors);
    free(c->tokenizer);
    free(c->path);
    free(c);
}

const char *lrt_checkpoint_path(const LrtCheckpoint *c)
{
    return c->path;
}

const json_t *lrt_checkpoint_config(const LrtCheckpoint *c)
{
    return c->config;
}

int lrt_checkpoint_count(const LrtCheckpoint *c)
{
    return c->count;
}

const LrtTensor *lrt_checkpoint_tensor(const LrtCheckpoint *c, int index)
{
    return c->tensors[index];
}

const LrtTensor *lrt_checkpoint_find(const LrtCheckpoint *c, const char *name)
{
    LrtTensor wanted = {.name = name};
    const LrtTensor *key = &wanted;
    const LrtTensor **found = bsearch(&key, c->tensors, (size_t)c->count, sizeof *c->tensors, by_name);
    return found ? *found : NULL;
}

const char *lrt_checkpoint_tokenizer_path(const LrtCheckpoint *c)
{
    return c->tokenizer;
}

/* All of a small tensor; evenly spaced pieces of a large one. */
static void hash_bytes(XXH3_state_t *state, const LrtTensor *t)
{
    enum { PIECES = 16, PIECE = 4096 };
    if (t->bytes <= PIECES * PIECE) {
        XXH3_64bits_update(state, t->data, t->bytes);
        return;
    }
    for (size_t i = 0; i < PIECES; i++)
        XXH3_64bits_update(state, t->data + (t->bytes - PIECE) / (PIECES - 1) * i, PIECE);
}

uint64_t lrt_checkpoint_hash(const LrtCheckpoint *c)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return 0;
    XXH3_64bits_reset(state);
    for (int i = 0; i < c->count; i++) {
        const LrtTensor *t = c->tensors[i];
        int32_t type = (int32_t)t->dtype;
        XXH3_64bits_update(state, t->name, strlen(t->name) + 1);
        XXH3_64bits_update(state, &type, sizeof type);
        XXH3_64bits_update(state, t->shape, sizeof *t->shape * (size_t)t->rank);
        hash_bytes(state, t);
    }
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}

void lrt_hash_text(uint64_t hash, char text[LRT_HASH_TEXT])
{
    snprintf(text, LRT_HASH_TEXT, "%016llx", (unsigned long long)hash);
}
