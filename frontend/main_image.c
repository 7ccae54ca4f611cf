/* main_image.c - the weights that an inference program carries, with an adapter folded in where one is merged; loracc verify. */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include <elf.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "frontend/main.h"
#include "runtime/image.h"
#include "runtime/pack.h"
#include "runtime/run.h"
#include "runtime/tokenizer.h"
#include "runtime/weights.h"

static const Loc nowhere = {0};

/* --- folding ---------------------------------------------------------------------------------------------------------------- */

/* An adapter's tensor as f32. */
typedef struct Factor {
    float *data;
    int64_t rows, columns;
} Factor;

typedef struct Fold {
    const PeftMerge *merge;
    Factor a, b; /* a replaced tensor: b only */
} Fold;

typedef struct Merger {
    Fold *folds;
    int count;
} Merger;

static bool read_factor(const LrtSafetensors *adapter, const char *name, Factor *factor, LrtError *error)
{
    const LrtTensor *tensor = lrt_safetensors_find(adapter, name);
    if (!tensor)
        return lrt_fail(error, LRT_INVALID, "the adapter has no tensor '%s'", name);
    factor->rows = tensor->rank > 1 ? tensor->shape[0] : 1;
    factor->columns = tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
    factor->data = malloc(sizeof(float) * (size_t)(lrt_tensor_elements(tensor) + 1));
    return factor->data ? lrt_tensor_read_rows(tensor, 0, factor->rows, factor->data, error)
                        : lrt_fail(error, LRT_FAILED, "out of memory");
}

/* Row `row` of the base tensor += s B A, summed in double in a fixed order, rounded once. */
static void fold_row(const Fold *fold, int64_t row, int64_t width, float *values)
{
    const PeftMerge *m = fold->merge;
    const Factor *a = &fold->a, *b = &fold->b;
    int64_t rank = a->rows;
    if (!m->transposed && (row < m->out_start || row >= m->out_stop))
        return;
    int64_t first = m->transposed ? m->out_start : 0, last = m->transposed ? m->out_stop : width;
    for (int64_t c = first; c < last; c++) {
        int64_t out = (m->transposed ? c : row) - m->out_start + m->b_start, in = m->transposed ? row : c;
        double sum = 0;
        for (int64_t r = 0; r < rank; r++)
            sum += (double)b->data[out * rank + r] * (double)a->data[r * a->columns + in];
        values[c] = (float)((double)values[c] + m->scale * sum);
    }
}

static bool edit_rows(void *user, const LrtTensor *tensor, const char *name, int64_t first, int64_t count, float *rows, LrtError *error)
{
    const Merger *merger = user;
    int64_t width = tensor->rank > 1 ? tensor->shape[1] : tensor->shape[0];
    (void)error;
    for (int i = 0; i < merger->count; i++) {
        const Fold *fold = &merger->folds[i];
        if (strcmp(fold->merge->tensor, name) != 0)
            continue;
        if (fold->merge->a)
            for (int64_t r = 0; r < count; r++)
                fold_row(fold, first + r, width, rows + r * width);
        else
            memcpy(rows, fold->b.data + first * width, sizeof *rows * (size_t)(count * width));
    }
    return true;
}

static bool open_merger(Merger *merger, const ModelFiles *files, const PeftResult *merge, Arena *arena, LrtError *error)
{
    merger->count = merge ? merge->merge_count : 0;
    merger->folds = ARENA_ARRAY(arena, Fold, merger->count + 1);
    for (int i = 0; i < merger->count; i++) {
        Fold *fold = &merger->folds[i];
        fold->merge = &merge->merges[i];
        if ((fold->merge->a && !read_factor(files->adapter, fold->merge->a, &fold->a, error)) ||
            !read_factor(files->adapter, fold->merge->b, &fold->b, error))
            return false;
    }
    return true;
}

static void close_merger(Merger *merger)
{
    for (int i = 0; i < merger->count; i++) {
        free(merger->folds[i].a.data);
        free(merger->folds[i].b.data);
    }
}

/* --- the image ------------------------------------------------------------------------------------------------------------------ */

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
                        .pitch = stored->pitch, .offset = stored->offset, .bytes = stored->bytes};
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

/* end_tokens: what ends an answer when there is no tokenizer. */
static const char *image_settings(const ModelFiles *files, Arena *arena)
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
    if (files->checkpoint)
        json_object_set_new(all, "base_hash",
                            json_string(arena_format(arena, "%016llx", (unsigned long long)lrt_checkpoint_hash(files->checkpoint))));
    char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
    const char *copy = arena_strdup(arena, text ? text : "{}");
    free(text);
    json_decref(all);
    return copy;
}

static bool add_image(ModelFiles *files, const Schedule *schedule, const PeftResult *merge, const char *program, LrtPool *pool,
                      Arena *arena, LrtError *error)
{
    Merger merger = {0};
    LrtProgram *table = program_of(schedule, arena);
    size_t tokenizer_bytes = 0;
    void *packed = NULL;
    char *weights = lrt_pages(table->weights_bytes, "the weights", error);
    bool ok = weights && open_merger(&merger, files, merge, arena, error);
    LrtSources sources = {.checkpoint = files->checkpoint, .adapter = files->adapter, .adapter_path = files->adapter_path,
                          .edit = merge ? edit_rows : NULL, .user = &merger};
    const char *settings = ok ? image_settings(files, arena) : NULL;
    ok = ok && lrt_load_params(table, &sources, weights, NULL, pool, error);
    const char *path = files->checkpoint ? lrt_checkpoint_tokenizer_path(files->checkpoint) : NULL;
    if (ok && path) {
        LrtTokenizer *tokenizer = lrt_tokenizer_open(path, error);
        packed = tokenizer ? lrt_tokenizer_pack(tokenizer, &tokenizer_bytes, error) : NULL;
        ok = packed != NULL;
        lrt_tokenizer_close(tokenizer);
    }
    ok = ok && lrt_image_append(program, weights, table->weights_bytes, packed, tokenizer_bytes, settings, error);
    free(packed);
    close_merger(&merger);
    lrt_free_pages(weights, table->weights_bytes);
    return ok;
}

bool main_add_image(ModelFiles *files, const Schedule *schedule, const PeftResult *merge, const char *program, Arena *arena,
                    Diag *diag)
{
    LrtError error = {LRT_OK, ""};
    LrtPool *pool = lrt_pool_new(lrt_online_cpus(), 64, &error);
    bool ok = pool && add_image(files, schedule, merge, program, pool, arena, &error);
    if (!ok)
        diag_error(diag, nowhere, "%s", error.text);
    lrt_pool_free(pool);
    return ok;
}

/* --- verify ------------------------------------------------------------------------------------------------------------------------ */

typedef struct Section {
    const uint8_t *data;
    size_t size;
} Section;

/* A section of the program's ELF image; size 0: none. */
static Section find_section(const LrtImage *image, const char *name)
{
    const uint8_t *base = image->map.data;
    size_t size = (size_t)image->trailer.elf_bytes;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
    Section none = {NULL, 0};
    if (size < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_shoff > size ||
        (size - header->e_shoff) / sizeof(Elf64_Shdr) < header->e_shnum || header->e_shstrndx >= header->e_shnum)
        return none;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(base + header->e_shoff);
    const Elf64_Shdr *names = &sections[header->e_shstrndx];
    if (names->sh_offset > size || names->sh_size > size - names->sh_offset)
        return none;
    for (int i = 0; i < header->e_shnum; i++) {
        const Elf64_Shdr *s = &sections[i];
        if (s->sh_name >= names->sh_size || s->sh_type == SHT_NOBITS || s->sh_offset > size || s->sh_size > size - s->sh_offset)
            continue;
        if (!strncmp((const char *)base + names->sh_offset + s->sh_name, name, names->sh_size - s->sh_name))
            return (Section){base + s->sh_offset, (size_t)s->sh_size};
    }
    return none;
}

static bool compare_section(const LrtImage *a, const LrtImage *b, const char *name)
{
    Section x = find_section(a, name), y = find_section(b, name);
    bool same = x.size && x.size == y.size && !memcmp(x.data, y.data, x.size);
    printf("%-14s %016llx %016llx %10zu bytes  %s\n", name, (unsigned long long)XXH3_64bits(x.data, x.size),
           (unsigned long long)XXH3_64bits(y.data, y.size), x.size, same ? "identical" : "DIFFERENT");
    return same;
}

/* Largest and RMS difference of the weight images as f32 (programs stored in f32). */
static void compare_weights(const LrtImage *a, const LrtImage *b)
{
    int64_t count = a->trailer.weights_bytes / 4, changed = 0;
    const float *x = (const float *)a->weights, *y = (const float *)b->weights;
    double largest = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)y[i] - (double)x[i];
        changed += d < 0 || d > 0;
        largest = fabs(d) > largest ? fabs(d) : largest;
        squares += d * d;
    }
    printf("weights        %lld of %lld numbers differ, largest update %.4g, RMS of the changed %.4g\n", (long long)changed,
           (long long)count, largest, changed ? sqrt(squares / (double)changed) : 0);
}

int main_verify(int argc, char **argv, Arena *arena, Diag *diag)
{
    LrtError error = {LRT_OK, ""};
    LrtImage base = {0}, merged = {0};
    (void)arena;
    if (argc != 3) {
        diag_error(diag, nowhere, "usage: loracc verify BASE MERGED");
        return 2;
    }
    bool ok = lrt_image_open(&base, argv[1], &error) && lrt_image_open(&merged, argv[2], &error);
    if (!ok) {
        diag_error(diag, nowhere, "%s", error.text);
        lrt_image_close(&base);
        return 2;
    }
    static const char *const sections[] = {".text", ".rodata", ".data.rel.ro", ".data"};
    bool same = true;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        same = compare_section(&base, &merged, sections[i]) && same;
    bool bytes = base.trailer.weights_bytes == merged.trailer.weights_bytes;
    printf("%-14s %lld and %lld bytes  %s\n", "weights", (long long)base.trailer.weights_bytes,
           (long long)merged.trailer.weights_bytes, bytes ? "same size: the same bytes read per token" : "DIFFERENT");
    if (bytes)
        compare_weights(&base, &merged);
    puts(same && bytes ? "the merged program costs what the base program costs" : "the programs are not the same code");
    lrt_image_close(&base);
    lrt_image_close(&merged);
    return same && bytes ? 0 : 1;
}
