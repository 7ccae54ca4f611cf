/* ldl_fake.h - what the tests of the language share: checkpoints made of JSON, compilation with
 * messages kept. */
#pragma once
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/frontend.h"
#include "ir/verify.h"

#ifndef LORACC_SOURCE
#define LORACC_SOURCE "."
#endif

static Arena *arena;

static inline void open_arena(void)
{
    arena = arena_new();
}

static inline void close_arena(void)
{
    arena_free(arena);
}

/* --- a checkpoint made of JSON --- */

typedef struct Fake {
    json_t *config;
    json_t *tensors; /* the header of a safetensors file, or NULL */
    const unsigned char *data;
} Fake;

static inline const json_t *lookup(const json_t *at, const char *key)
{
    while (at && *key) {
        char part[128];
        const size_t n = strcspn(key, ".");
        ck_assert_uint_lt(n, sizeof part);
        memcpy(part, key, n);
        part[n] = 0;
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(part))
                               : json_object_get(at, part);
        key += n + (key[n] == '.');
    }
    return at;
}

static inline ConfigValue fake_config(void *user, const char *key)
{
    const json_t *v = lookup(((Fake *)user)->config, key);
    if (!v)
        return (ConfigValue){.kind = CONFIG_ABSENT};
    if (json_is_boolean(v))
        return (ConfigValue){.kind = CONFIG_BOOL, .boolean = json_is_true(v)};
    if (json_is_integer(v))
        return (ConfigValue){
            .kind = CONFIG_INT, .integer = json_integer_value(v), .real = json_number_value(v)};
    if (json_is_real(v))
        return (ConfigValue){.kind = CONFIG_REAL, .real = json_real_value(v)};
    if (json_is_string(v))
        return (ConfigValue){.kind = CONFIG_STRING, .string = json_string_value(v)};
    if (json_is_array(v))
        return (ConfigValue){.kind = CONFIG_LIST, .length = (int)json_array_size(v)};
    return (ConfigValue){.kind = json_is_object(v) ? CONFIG_OBJECT : CONFIG_NULL};
}

static inline bool fake_tensor(void *user, const char *name, CheckpointTensor *tensor)
{
    const json_t *entry = json_object_get(((Fake *)user)->tensors, name);
    const json_t *shape = json_object_get(entry, "shape");
    if (!entry)
        return false;
    *tensor = (CheckpointTensor){.name = name, .rank = (int)json_array_size(shape)};
    for (int i = 0; i < tensor->rank && i < 6; i++)
        tensor->shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
    return true;
}

static inline Checkpoint checkpoint_of(Fake *fake)
{
    return (Checkpoint){.user = fake,
                        .path = "fake",
                        .config = fake_config,
                        .tensor = fake_tensor,
                        .tensors_known = fake->tensors != NULL};
}

static inline Fake fake_of(const char *config, const char *tensors)
{
    Fake fake = {.config = json_loads(config, 0, NULL)};
    ck_assert_ptr_nonnull(fake.config);
    if (tensors)
        ck_assert_ptr_nonnull(fake.tensors = json_loads(tensors, 0, NULL));
    return fake;
}

static inline void fake_free(Fake *fake)
{
    json_decref(fake->config);
    json_decref(fake->tensors);
    free((void *)fake->data);
}

/* --- compiling --- */

static inline const Source *source_of(const char *text)
{
    return source_from_memory(arena, "test.ldl", text, (int)strlen(text));
}

/* Compiles; what was reported is left in *messages (free it). */
static inline Graph *compile(const Source *source, Fake *fake, char **messages)
{
    size_t size;
    FILE *out = open_memstream(messages, &size);
    Diag diag = diag_new(out);
    Checkpoint checkpoint;
    if (fake)
        checkpoint = checkpoint_of(fake);
    Graph *graph = ldl_compile(source, fake ? &checkpoint : NULL, arena, &diag);
    fclose(out);
    ck_assert_msg((graph != NULL) == (diag.errors == 0), "a graph and errors, or neither");
    return graph;
}

static inline Graph *compile_good(const Source *source, Fake *fake)
{
    char *messages = NULL;
    Graph *graph = compile(source, fake, &messages);
    ck_assert_msg(graph != NULL, "%s", messages);
    free(messages);
    const char *wrong = graph_verify(graph, arena);
    ck_assert_msg(!wrong, "%s: %s", source->path, wrong);
    return graph;
}

static inline const Source *example(const char *name)
{
    const char *path = arena_format(arena, LORACC_SOURCE "/examples/%s.ldl", name);
    const Source *source = source_read(arena, path);
    ck_assert_msg(source != NULL, "%s is missing", path);
    return source;
}
