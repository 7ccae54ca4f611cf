/* loralib.c - state dicts of Microsoft's loralib, seen under the names that adapters have here.
 *
 * A Linear has MODULE.lora_A [r, in] and MODULE.lora_B [out, r].  A MergedLinear, for a fused weight, has the pairs of its enabled slices
 * one below the other: lora_A [n r, in], lora_B [n out, r].  So a slice's factors are rows of the file: nothing is copied. */
#include "runtime/loralib.h"

#include <stdlib.h>
#include <string.h>

enum { PARTS_MAX = 64 };

typedef struct View {
    LrtTensor *tensors;
    int count;
    json_t *names;
    const char *path;
    LrtError *error;
} View;

static const char *factor_of(const char *name)
{
    static const char *const ends[] = {".lora_A", ".lora_B"};
    size_t length = strlen(name);
    for (int i = 0; i < 2; i++)
        if (length > 7 && !strcmp(name + length - 7, ends[i]))
            return ends[i];
    return NULL;
}

/* Rows [part n / parts, (part + 1) n / parts) of the tensor; the view takes over `name`. */
static void add(View *v, const LrtTensor *tensor, json_t *name, int part, int parts)
{
    json_array_append_new(v->names, name);
    LrtTensor *t = &v->tensors[v->count++];
    *t = *tensor;
    t->name = json_string_value(name);
    t->shape[0] /= parts;
    t->bytes /= (size_t)parts;
    t->data += t->bytes * (size_t)part;
}

static bool add_slices(View *v, const LrtTensor *tensor, const char *factor, const json_t *roles)
{
    int parts = (int)json_array_size(roles), module = (int)(strlen(tensor->name) - strlen(factor));
    if (tensor->rank != 2 || tensor->shape[0] % parts)
        return lrt_fail(v->error, LRT_INVALID,
                        "%s: '%s' does not hold %d parts one below the other; \"parts\" has to name the enabled slices", v->path,
                        tensor->name, parts);
    for (int i = 0; i < parts; i++)
        add(v, tensor, json_sprintf("%.*s.%s%s.weight", module, tensor->name, json_string_value(json_array_get(roles, (size_t)i)), factor),
            i, parts);
    return true;
}

bool lrt_is_loralib(const LrtSafetensors *file)
{
    for (int i = 0; i < lrt_safetensors_count(file); i++)
        if (factor_of(lrt_safetensors_tensor(file, i)->name))
            return true;
    return false;
}

bool lrt_loralib_rename(LrtSafetensors *file, const char *path, const json_t *config, LrtError *error)
{
    const json_t *roles = json_object_get(config, "parts");
    if (json_array_size(roles) > PARTS_MAX)
        return lrt_fail(error, LRT_INVALID, "%s: \"parts\" of its adapter_config.json names more than %d slices", path, PARTS_MAX);
    int count = lrt_safetensors_count(file), parts = json_array_size(roles) ? (int)json_array_size(roles) : 1;
    View v = {calloc((size_t)count * (size_t)parts + 1, sizeof *v.tensors), 0, json_array(), path, error};
    bool ok = v.tensors || lrt_fail(error, LRT_FAILED, "out of memory");
    for (int i = 0; ok && i < count; i++) {
        const LrtTensor *tensor = lrt_safetensors_tensor(file, i);
        const char *factor = factor_of(tensor->name);
        if (factor && json_array_size(roles))
            ok = add_slices(&v, tensor, factor, roles);
        else
            add(&v, tensor, json_sprintf("base_model.model.%s%s", tensor->name, factor ? ".weight" : ""), 0, 1);
    }
    if (ok) {
        lrt_safetensors_replace(file, v.tensors, v.count, v.names);
        return true;
    }
    free(v.tensors);
    json_decref(v.names);
    return false;
}
