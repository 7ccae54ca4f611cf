/* state.c - see state.h. */
#include "runtime/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cpu.h"
#include "runtime/file.h"

static const char file_name[] = "training_state.safetensors";

bool lrt_state_save(const LrtRun *run, const LrtState *state, const char *m, const char *v, const char *directory, LrtError *error)
{
    int64_t floats = run->program->params_bytes / 4;
    const char *parts[] = {run->context.base[LRT_BASE_PARAMS], m, v};
    static const char *const names[] = {"parameters", "first_moments", "second_moments"};
    LrtTensor tensors[3];
    for (int i = 0; i < 3; i++)
        tensors[i] = (LrtTensor){.name = names[i], .dtype = LRT_F32, .rank = 1, .shape = {floats},
                                 .data = (const uint8_t *)parts[i]};
    char text[5][40];
    snprintf(text[0], 40, "%lld", (long long)state->step);
    snprintf(text[1], 40, "%lld", (long long)state->epoch);
    snprintf(text[2], 40, "%lld", (long long)state->place);
    snprintf(text[3], 40, "%.17g", state->best);
    snprintf(text[4], 40, "%016llx", (unsigned long long)state->identity);
    const char *metadata[] = {"step", text[0], "epoch", text[1], "place", text[2], "best", text[3], "identity", text[4],
                              "tier", lrt_tier_name(run->tier), NULL};
    char *path = lrt_path_join(directory, file_name);
    bool ok = path ? lrt_safetensors_write(path, tensors, 3, metadata, error) : lrt_fail(error, LRT_FAILED, "out of memory");
    free(path);
    return ok;
}

static bool read_part(const LrtSafetensors *file, const char *path, const char *name, int64_t bytes, char *to, LrtError *error)
{
    const LrtTensor *tensor = lrt_safetensors_find(file, name);
    if (!tensor || tensor->dtype != LRT_F32 || (int64_t)tensor->bytes != bytes)
        return lrt_fail(error, LRT_INVALID, "%s: not a checkpoint of this program", path);
    memcpy(to, tensor->data, (size_t)bytes);
    return true;
}

static const char *value(const LrtSafetensors *file, const char *key)
{
    const char *text = lrt_safetensors_metadata(file, key);
    return text ? text : "";
}

bool lrt_state_load(LrtRun *run, LrtState *state, char *m, char *v, const char *directory, LrtError *error)
{
    char *path = lrt_path_join(directory, file_name);
    int64_t bytes = run->program->params_bytes;
    if (!path)
        return lrt_fail(error, LRT_FAILED, "out of memory");
    if (!lrt_file_exists(path)) {
        lrt_report(error, LRT_INVALID, "--resume: no checkpoint in '%s'", directory);
        free(path);
        return false;
    }
    LrtSafetensors *file = lrt_safetensors_open(path, error);
    bool ok = file && read_part(file, path, "parameters", bytes, run->context.base[LRT_BASE_PARAMS], error) &&
              read_part(file, path, "first_moments", bytes, m, error) && read_part(file, path, "second_moments", bytes, v, error);
    if (ok && strtoull(value(file, "identity"), NULL, 16) != state->identity)
        ok = lrt_fail(error, LRT_INVALID, "%s: of a run with other data or options; resume with the same ones", path);
    if (ok) {
        state->step = strtoll(value(file, "step"), NULL, 10);
        state->epoch = strtoll(value(file, "epoch"), NULL, 10);
        state->place = strtoll(value(file, "place"), NULL, 10);
        state->best = strtod(value(file, "best"), NULL);
    }
    lrt_safetensors_close(file);
    free(path);
    return ok;
}
