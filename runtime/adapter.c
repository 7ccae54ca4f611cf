/* adapter.c - see adapter.h. */
#define _GNU_SOURCE
#include "runtime/adapter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/weights.h"

bool lrt_make_directory(const char *path, LrtError *error)
{
    char *copy = strdup(path);
    if (!copy)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    bool ok = true;
    for (char *slash = copy + 1; ok; slash++) {
        if (*slash && *slash != '/')
            continue;
        char end = *slash;
        *slash = '\0';
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            ok = lrt_fail(error, LRT_FAILED, "cannot make the directory '%s': %s", copy, strerror(errno));
        *slash = end;
        if (!end)
            break;
    }
    free(copy);
    if (ok && !lrt_is_directory(path))
        ok = lrt_fail(error, LRT_FAILED, "'%s' is not a directory", path);
    return ok;
}

static bool write_config(const LrtRun *run, const char *path, LrtError *error)
{
    const char *text = json_string_value(json_object_get(run->settings, "adapter_config"));
    if (!text)
        return lrt_fail(error, LRT_FAILED, "the program has no adapter configuration");
    return lrt_file_write(path, text, strlen(text), error);
}

bool lrt_adapter_save(const LrtRun *run, const char *directory, LrtError *error)
{
    LrtTensor *tensors;
    int count;
    char *path = lrt_path_join(directory, "adapter_model.safetensors");
    char *config = lrt_path_join(directory, "adapter_config.json");
    bool ok = path && config && lrt_make_directory(directory, error), fresh = ok && !lrt_file_exists(config);
    if (ok && (ok = lrt_adapter_tensors(run->program, run->weights, run->context.base[LRT_BASE_PARAMS], false, &tensors,
                                        &count, error))) {
        const char *metadata[5] = {NULL};
        int entries = 0;
        if (*run->base)
            metadata[entries++] = "loracc_base", metadata[entries++] = run->base;
        if (run->class_names)
            metadata[entries++] = "id2label", metadata[entries++] = run->class_names;
        ok = write_config(run, config, error) && lrt_safetensors_write(path, tensors, count, metadata, error);
        lrt_free_tensors(tensors, count);
    }
    if (!ok && fresh)
        unlink(config); /* half an adapter is none */
    free(path);
    free(config);
    return ok;
}

LrtSafetensors *lrt_adapter_open(const char *directory, LrtError *error)
{
    char *path = lrt_path_join(directory, "adapter_model.safetensors");
    LrtSafetensors *file = path ? lrt_safetensors_open(path, error) : NULL;
    free(path);
    return file;
}

json_t *lrt_adapter_names(const LrtSafetensors *adapter)
{
    const char *text = lrt_safetensors_metadata(adapter, "id2label");
    json_t *names = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    return names ? json_pack("{s:o}", "id2label", names) : NULL;
}

bool lrt_adapter_check_base(const LrtSafetensors *adapter, const char *directory, const LrtCheckpoint *base, LrtError *error)
{
    const char *trained_on = lrt_safetensors_metadata(adapter, "loracc_base");
    char hash[LRT_HASH_TEXT];
    lrt_hash_text(lrt_checkpoint_hash(base), hash);
    return !trained_on || !strcmp(trained_on, hash) ||
           lrt_fail(error, LRT_INVALID, "%s: trained on another base (%s) than '%s' (%s); give that one, or --any-base to use it all the same",
                    directory, trained_on, lrt_checkpoint_path(base), hash);
}
