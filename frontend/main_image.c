/* main_image.c - the weights that an inference program carries, with an adapter folded in where one is merged. */
#include <stdlib.h>
#include <string.h>

#include "frontend/main_merge.h"
#include "runtime/adapter.h"
#include "runtime/image.h"
#include "runtime/tokenizer.h"

static const Loc nowhere = {0};

/* The schedule's parameters in the form that the loader knows. */
static LrtProgram *program_of(const Schedule *s, Arena *arena)
{
    const Graph *graph = s->graph;
    LrtProgram *program = ARENA_NEW(arena, LrtProgram);
    LrtParam *params = ARENA_ARRAY(arena, LrtParam, graph->param_count + 1);
    for (int i = 0; i < graph->param_count; i++) {
        const Param *param = graph->params[i];
        const Stored *stored = &s->stored[param->index];
        LrtParam *p = &params[i];
        *p = (LrtParam){.name = param->tensor, .base = param->base, .adapter = param->adapter, .trained = param->trained,
                        .file_rank = param->file_rank, .transposed = param->transposed != stored->flipped,
                        .layout = (int)stored->layout, .store = stored->store, .rows = stored->rows, .cols = stored->columns,
                        .pitch = stored->pitch, .offset = stored->offset, .bytes = stored->bytes,
                        .init = (int)param->init, .init_scale = param->init_scale};
        for (int k = 0; k < LRT_PARAM_RANK; k++) {
            bool real = k < param->file_rank;
            p->file_shape[k] = real ? param->slices[k].extent : 1;
            p->file_start[k] = real ? param->slices[k].start : 0;
            p->file_stop[k] = real ? param->slices[k].stop : 1;
        }
    }
    program->params = params;
    program->param_count = graph->param_count;
    program->weights_bytes = s->weights_bytes;
    return program;
}

/* Bytes of the checkpoint that one token reads: what a program that computes on the file as it is would read. */
static int64_t file_bytes_per_token(const ModelFiles *files, const Schedule *s)
{
    double bytes = 0;
    for (int i = 0; files->checkpoint && i < s->graph->param_count; i++) {
        const Param *param = s->graph->params[i];
        const LrtTensor *tensor = lrt_find_weight(files->checkpoint, param->tensor);
        if (!s->stored[i].streamed || !tensor)
            continue;
        double share = (double)(s->stored[i].rows * s->stored[i].columns) / (double)lrt_tensor_elements(tensor);
        bytes += (double)tensor->bytes * share;
    }
    return (int64_t)bytes;
}

/* end_tokens: what ends an answer when there is no tokenizer; id2label: names of classes; report: of a merge. */
static const char *image_settings(const ModelFiles *files, const Schedule *schedule, json_t *report, Arena *arena)
{
    json_t *all = json_object(), *ends = json_array();
    const json_t *config = files->checkpoint ? lrt_checkpoint_config(files->checkpoint) : files->config;
    const json_t *eos = json_object_get(config, "eos_token_id");
    if (json_is_integer(eos))
        json_array_append(ends, (json_t *)(uintptr_t)eos);
    for (size_t i = 0; i < json_array_size(eos); i++)
        json_array_append(ends, json_array_get(eos, i));
    json_object_set_new(all, "end_tokens", ends);
    if (files->weights_path)
        json_object_set_new(all, "weights", json_string(files->weights_path));
    if (files->adapter_path)
        json_object_set_new(all, "adapter", json_string(files->adapter_path));
    if (files->checkpoint) {
        char hash[LRT_HASH_TEXT];
        lrt_hash_text(lrt_checkpoint_hash(files->checkpoint), hash);
        json_object_set_new(all, "base_hash", json_string(hash));
    }
    json_t *trained = files->adapter ? lrt_adapter_names(files->adapter) : NULL;
    const json_t *names = json_object_get(trained ? trained : config, "id2label");
    if (names)
        json_object_set(all, "id2label", (json_t *)(uintptr_t)names);
    json_decref(trained);
    if (report)
        json_object_set_new(all, "merge", report);
    json_object_set_new(all, "bytes_per_token", json_integer(schedule->bytes_per_token));
    json_object_set_new(all, "file_bytes_per_token", json_integer(file_bytes_per_token(files, schedule)));
    char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    const char *copy = arena_strdup(arena, text ? text : "{}");
    free(text);
    json_decref(all);
    return copy;
}

static void *pack_tokenizer(const ModelFiles *files, size_t *bytes, LrtError *error)
{
    const char *path = files->checkpoint ? lrt_checkpoint_tokenizer_path(files->checkpoint) : NULL;
    LrtTokenizer *tokenizer = path ? lrt_tokenizer_open(path, error) : NULL;
    void *packed = tokenizer ? lrt_tokenizer_pack(tokenizer, bytes, error) : NULL;
    lrt_tokenizer_close(tokenizer);
    return packed;
}

static bool add_image(const ModelFiles *files, const Schedule *schedule, const PeftResult *adaptation, bool beside, const char *program,
                      LrtPool *pool, Arena *arena, LrtError *error)
{
    LrtProgram *table = program_of(schedule, arena);
    char *weights = lrt_pages(table->weights_bytes, "the weights", error);
    Merger merger = {0};
    bool ok = weights && merger_open(&merger, files, adaptation, beside, arena, error);
    LrtSources sources = {.checkpoint = files->checkpoint, .adapter = files->adapter, .adapter_path = files->adapter_path,
                          .folds = merger.folds, .fold_count = merger.count};
    ok = ok && lrt_load_params(table, &sources, weights, NULL, pool, error);
    json_t *report = ok && merger.count && !beside ? merger_report(&merger, table, weights, pool, error) : NULL;
    size_t tokenizer_bytes = 0;
    void *tokenizer = ok ? pack_tokenizer(files, &tokenizer_bytes, error) : NULL;
    const char *settings = image_settings(files, schedule, report, arena);
    ok = ok && error->status == LRT_OK &&
         lrt_image_append(program, weights, table->weights_bytes, tokenizer, tokenizer_bytes, settings, error);
    free(tokenizer);
    lrt_free_pages(weights, table->weights_bytes);
    return ok;
}

bool main_add_image(ModelFiles *files, const Schedule *schedule, const PeftResult *adaptation, bool beside, const char *program,
                    Arena *arena, Diag *diag)
{
    LrtError error = {LRT_OK, ""};
    LrtPool *pool = lrt_pool_new(lrt_online_cpus(), 64, &error);
    bool ok = pool && add_image(files, schedule, adaptation, beside, program, pool, arena, &error);
    if (!ok)
        diag_error(diag, nowhere, "%s", error.text);
    lrt_pool_free(pool);
    return ok;
}
