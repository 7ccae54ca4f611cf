/* schedule.c - from a graph to what the program runs, in three steps: layout, fuse, plan. */
#include "passes/schedule_build.h"

Schedule *schedule_graph(Graph *graph, const ScheduleOptions *options, AttentionWork *attention_work, Arena *arena,
                         Diag *diag)
{
    Schedule *schedule = ARENA_NEW(arena, Schedule);
    schedule->graph = graph;
    schedule->options = *options;
    layout(schedule, arena);
    if (!fuse(schedule, attention_work, arena, diag))
        return NULL;
    plan(schedule, arena);
    return schedule;
}

static const char *const kernel_names[KERNEL_KIND_COUNT] = {
    [KERNEL_ROWS] = "rows",
    [KERNEL_GEMM] = "product",
    [KERNEL_GEMM_TN] = "gradient",
    [KERNEL_COLUMN_SUM] = "column_sum",
    [KERNEL_SCATTER] = "scatter",
    [KERNEL_ROPE] = "rope",
    [KERNEL_ATTENTION] = "attention",
    [KERNEL_ATTENTION_GRAD] = "attention_grad",
    [KERNEL_CROSS_ENTROPY] = "cross_entropy",
    [KERNEL_APPEND] = "append",
};

static void print_buffer(Text *text, const Buffer *buffer)
{
    text_format(text, " [%lld +%lld, %lld x %s, %d..%d]", (long long)buffer->offset, (long long)buffer->bytes,
                (long long)buffer->columns, buffer->row_dim ? dim_str(text->arena, buffer->row_dim) : "bytes", buffer->first,
                buffer->last);
}

const char *schedule_print(const Schedule *s, Arena *arena)
{
    Text text = {.arena = arena};
    text_format(&text, "; arena %lld bytes, weights %lld, trained %lld, cache %lld\n", (long long)s->arena_bytes,
                (long long)s->weights_bytes, (long long)s->params_bytes, (long long)s->cache_bytes);
    for (int i = 0; i < s->kernel_count; i++) {
        const Kernel *kernel = s->kernels[i];
        text_format(&text, "%4d %-14s", i, kernel_names[kernel->kind]);
        if (kernel->layer >= 0)
            text_format(&text, " @%d", kernel->layer);
        text_add(&text, kernel->backward ? " bwd" : "");
        if (kernel->second)
            text_format(&text, " low-rank %%%d", kernel->second->id);
        if (kernel->gradient)
            text_format(&text, " of \"%s\"", kernel->gradient->name);
        text_format(&text, " %%%d", kernel->anchor->id);
        for (int k = 0; k < kernel->output_count; k++) {
            text_format(&text, " -> %%%d", kernel->outputs[k]->id);
            print_buffer(&text, s->buffer_of[kernel->outputs[k]->id]);
        }
        if (kernel->kind == KERNEL_GEMM || kernel->kind == KERNEL_ROPE) {
            text_format(&text, " -> %%%d", kernel->root->id);
            print_buffer(&text, s->buffer_of[kernel->root->id]);
        }
        for (int k = 0; k < OP_MAX_RESULTS; k++)
            if (kernel->results[k])
                print_buffer(&text, kernel->results[k]);
        text_add(&text, "\n");
    }
    return text.data;
}
