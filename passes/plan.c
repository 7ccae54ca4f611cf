/* plan.c - lifetimes of buffers to offsets in one arena.
 *
 * A buffer lives from the kernel that writes it to the last one that reads it, directly or while computing something in place.
 * Kernels are walked in order; a free list of the arena's holes gives each buffer the smallest hole that fits.
 *
 * requires: kernels and buffers of `fuse`; provides: offsets, arena_bytes. */
#include <stdlib.h>

#include "passes/schedule_build.h"

/* --- last uses ------------------------------------------------------------------------------------------------- */

typedef struct Reader {
    const Schedule *schedule;
    int kernel;
    int *seen; /* by node id: 1 + the last kernel that was found to compute it in place */
} Reader;

/* Every buffer that the operands of `node` are, or are computed from in place. */
static void note_operands(Reader *r, const Node *node)
{
    for (int i = 0; i < node->input_count; i++) {
        const Node *input = node_origin(node->inputs[i]);
        Buffer *buffer = r->schedule->buffer_of[input->id];
        if (buffer) {
            buffer->last = r->kernel > buffer->last ? r->kernel : buffer->last;
        } else if (r->seen[input->id] != r->kernel + 1) {
            r->seen[input->id] = r->kernel + 1;
            note_operands(r, input);
        }
    }
}

static void note_lifetimes(Schedule *s, Arena *arena)
{
    Reader r = {.schedule = s, .seen = ARENA_ARRAY(arena, int, s->graph->node_count)};
    for (int i = 0; i < s->buffer_count; i++)
        s->buffers[i]->last = s->buffers[i]->first;
    for (r.kernel = 0; r.kernel < s->kernel_count; r.kernel++) {
        const Kernel *kernel = s->kernels[r.kernel];
        if (kernel->kind == KERNEL_ROWS)
            for (int k = 0; k < kernel->output_count; k++)
                note_operands(&r, kernel->outputs[k]);
        else
            note_operands(&r, kernel->kind == KERNEL_GEMM ? kernel->root : kernel->anchor);
    }
    for (int i = 0; i < s->graph->output_count; i++) {
        Buffer *buffer = s->buffer_of[node_origin(s->graph->outputs[i].node)->id];
        if (buffer)
            buffer->keep = true;
    }
    /* What `head` reads of the forward run must survive being read more than once. */
    for (int i = 0; i < s->buffer_count; i++) {
        Buffer *buffer = s->buffers[i];
        if (buffer->row_dim == DIM_T && s->kernels[buffer->last]->row_dim == DIM_R)
            buffer->keep = true;
        if (buffer->keep)
            buffer->last = s->kernel_count;
    }
}

/* --- offsets ------------------------------------------------------------------------------------------------------ */

/* Holes of the arena, by offset, without neighbours that touch.  The last one has no end. */
typedef struct Hole {
    int64_t offset, bytes;
} Hole;

typedef struct Holes {
    Arena *arena;
    Hole *at;
    int count, capacity;
} Holes;

static void remove_hole(Holes *holes, int index)
{
    for (int i = index; i + 1 < holes->count; i++)
        holes->at[i] = holes->at[i + 1];
    holes->count--;
}

static int64_t take(Holes *holes, int64_t bytes)
{
    int best = -1;
    for (int i = 0; i < holes->count; i++)
        if (holes->at[i].bytes >= bytes && (best < 0 || holes->at[i].bytes < holes->at[best].bytes))
            best = i;
    int64_t offset = holes->at[best].offset;
    holes->at[best].offset += bytes;
    holes->at[best].bytes -= bytes;
    if (holes->at[best].bytes == 0)
        remove_hole(holes, best);
    return offset;
}

static void give_back(Holes *holes, int64_t offset, int64_t bytes)
{
    int i = 0;
    while (i < holes->count && holes->at[i].offset < offset)
        i++;
    bool joins_before = i > 0 && holes->at[i - 1].offset + holes->at[i - 1].bytes == offset;
    bool joins_after = i < holes->count && offset + bytes == holes->at[i].offset;
    if (joins_before) {
        holes->at[i - 1].bytes += bytes;
        if (joins_after) {
            holes->at[i - 1].bytes += holes->at[i].bytes;
            remove_hole(holes, i);
        }
        return;
    }
    if (joins_after) {
        holes->at[i].offset = offset;
        holes->at[i].bytes += bytes;
        return;
    }
    Hole none = {0};
    ARENA_PUSH(holes->arena, holes->at, holes->count, holes->capacity, none);
    for (int k = holes->count - 1; k > i; k--)
        holes->at[k] = holes->at[k - 1];
    holes->at[i] = (Hole){offset, bytes};
}

static int by_last(const void *a, const void *b)
{
    const Buffer *x = *(Buffer *const *)a, *y = *(Buffer *const *)b;
    return x->last != y->last ? (x->last < y->last ? -1 : 1) : x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int by_first(const void *a, const void *b)
{
    const Buffer *x = *(Buffer *const *)a, *y = *(Buffer *const *)b;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return x->bytes != y->bytes ? (x->bytes > y->bytes ? -1 : 1) : x->node->id - y->node->id;
}

void plan(Schedule *s, Arena *arena)
{
    note_lifetimes(s, arena);
    Holes holes = {.arena = arena};
    Hole everything = {0, INT64_MAX / 2};
    ARENA_PUSH(arena, holes.at, holes.count, holes.capacity, everything);
    Buffer **starts = arena_copy(arena, s->buffers, sizeof *starts * (size_t)s->buffer_count);
    Buffer **ends = arena_copy(arena, s->buffers, sizeof *ends * (size_t)s->buffer_count);
    qsort(starts, (size_t)s->buffer_count, sizeof *starts, by_first);
    qsort(ends, (size_t)s->buffer_count, sizeof *ends, by_last);
    int ended = 0;
    for (int i = 0; i < s->buffer_count; i++) {
        Buffer *buffer = starts[i];
        for (; ended < s->buffer_count && ends[ended]->last < buffer->first; ended++)
            if (ends[ended]->bytes)
                give_back(&holes, ends[ended]->offset, ends[ended]->bytes);
        if (buffer->bytes == 0)
            continue;
        buffer->offset = take(&holes, buffer->bytes);
        if (buffer->offset + buffer->bytes > s->arena_bytes)
            s->arena_bytes = buffer->offset + buffer->bytes;
    }
    s->cache_bytes = 2 * s->cache_slots * s->options.max_length * s->cache_pitch;
}
