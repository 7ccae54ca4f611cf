/* main.c - the driver: options, description, passes, backend, link.  With its neighbours main_*.c the one place that sees all
 * modules. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"
#include "frontend/frontend.h"
#include "frontend/main.h"
#include "frontend/main_initial.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "passes/passes.h"
#include "passes/peft/config.h"
#include "passes/report.h"
#include "runtime/lrt_abi.h"

static const Loc nowhere = {0};

typedef enum EmitWhat { WHAT_GRAPH, WHAT_LDL, WHAT_LLVM, WHAT_ASM, WHAT_OBJECT, WHAT_PROGRAM, WHAT_COUNT } EmitWhat;
static const char *const emit_names[WHAT_COUNT] = {"graph", "ldl", "llvm", "asm", "object", "program"};

/* One compilation. */
typedef struct Driver {
    Options options;
    Arena *arena;
    Diag diag;
    ModelFiles files;   /* checkpoint and adapter */
    PeftSpec spec;
    PeftResult result;
    bool has_method, merging, no_dropout;
    EmitWhat what;
    ScheduleOptions schedule;
    BackendOptions backend;
    Graph *graph;
    Schedule *plan;
} Driver;

static const char *option(const Driver *d, OptionId id)
{
    return d->options.value[id];
}

static bool choose(Driver *d, OptionId id, const char *const *names, int count, int *choice)
{
    const char *value = option(d, id);
    for (int i = 0; value && i < count; i++)
        if (!strcmp(value, names[i])) {
            *choice = i;
            return true;
        }
    if (!value)
        return true;
    Text list = {.arena = d->arena};
    for (int i = 0; i < count; i++)
        text_format(&list, "%s%s", i ? ", " : "", names[i]);
    diag_error(&d->diag, nowhere, "'%s' is not one of %s", value, list.data);
    return false;
}

/* --- what is asked for --------------------------------------------------------------------------------------------- */

static bool read_targets(Driver *d)
{
    const char *value = option(d, OPTION_TARGET);
    int count = 0;
    const char *const *names = peft_parse_names(value ? value : "generic,avx2,avx512", &count, d->arena);
    for (int i = 0; i < count; i++) {
        int tier = 0;
        while (backend_tier_name(tier) && strcmp(backend_tier_name(tier), names[i]) != 0)
            tier++;
        if (!backend_tier_name(tier)) {
            diag_error(&d->diag, nowhere, "--target: unknown instruction set '%s'; --list-targets shows them", names[i]);
            return false;
        }
        d->backend.tiers[tier] = true;
    }
    return count > 0;
}

static bool read_adaptation(Driver *d)
{
    bool ok = main_read_adaptation(&d->options, &d->files, &d->spec, d->arena, &d->diag);
    d->has_method = d->spec.method != NULL;
    d->merging = option(d, OPTION_MERGE) != NULL;
    return ok;
}

static bool read_types(Driver *d)
{
    static const char *const stores[] = {"f32", "bf16", "q8_0"}, *const types[] = {"f32"}, *const switches[] = {"on", "off"};
    static const char *const products[] = {"own", "openblas"};
    int ignored = 0, off = 0, product = 0;
    ScheduleOptions *s = &d->schedule;
    s->training = d->has_method && !d->spec.infer;
    if (!option_integer(&d->options, OPTION_LENGTH, s->training ? 512 : 2048, 1, 1 << 24, &s->max_length, &d->diag) ||
        !choose(d, OPTION_STORE, stores, 3, &s->store) || !choose(d, OPTION_DTYPE, types, 1, &ignored) ||
        !choose(d, OPTION_MODEL_DROPOUT, switches, 2, &off) || !choose(d, OPTION_GEMM, products, 2, &product))
        return false;
    d->backend.openblas = product == 1;
    d->no_dropout = off == 1;
    return true;
}

static bool read_capacities(Driver *d)
{
    enum { PREFILL = 256, LOGIT_ROWS = 32, LEAST_TOKENS = 8 };
    int64_t batch;
    ScheduleOptions *s = &d->schedule;
    bool whole = s->training || runs_whole(d->graph); /* with room for all tokens; else they go through in pieces */
    if (!option_integer(&d->options, OPTION_BATCH, s->training ? 4 : 1, 1, 1 << 20, &batch, &d->diag))
        return false;
    int64_t learned = d->result.prefix + d->result.infix, positions = d->graph->context - learned;
    if (d->graph->context && s->max_length > positions) {
        if (option(d, OPTION_LENGTH))
            diag_note(&d->diag, nowhere, "--length %lld is more than the model's %lld positions%s; lowered to that",
                      (long long)s->max_length, (long long)positions, learned ? " beside the learned ones" : "");
        s->max_length = positions;
    }
    s->max_length += learned;
    d->backend.prefix = d->result.prefix;
    d->backend.infix = d->result.infix;
    d->backend.virtual_logits = d->result.virtual_logits;
    d->backend.predict_first = d->result.predict_first;
    s->max_tokens = batch * s->max_length;
    if (!whole && s->max_tokens > PREFILL + learned)
        s->max_tokens = PREFILL + learned; /* prompts go through in pieces */
    s->max_rows = s->max_tokens < LOGIT_ROWS ? s->max_tokens : LOGIT_ROWS;
    s->max_sequences = s->max_tokens / LEAST_TOKENS > batch ? s->max_tokens / LEAST_TOKENS : batch;
    if (s->max_tokens > INT32_MAX) {
        diag_error(&d->diag, nowhere, "--batch times --length is more than %d tokens", INT32_MAX);
        return false;
    }
    return true;
}

/* --- steps ----------------------------------------------------------------------------------------------------------------- */

static bool read_model(Driver *d)
{
    const Source *source = source_read(d->arena, d->options.input);
    if (!source) {
        diag_error(&d->diag, nowhere, "cannot read '%s'", d->options.input);
        return false;
    }
    if (d->what == WHAT_LDL) {
        const char *text = ldl_print(source, d->arena, &d->diag);
        if (text)
            fputs(text, stdout);
        return text != NULL;
    }
    if (!main_open_checkpoint(&d->files, option(d, OPTION_WEIGHTS), option(d, OPTION_CONFIG), option(d, OPTION_SET), d->arena,
                              &d->diag))
        return false;
    d->spec.base = d->files.folder;
    d->graph = option(d, OPTION_FROM_IR) ? graph_read(d->arena, source, &d->diag)
                                         : ldl_compile(source, d->files.interface, d->arena, &d->diag);
    return d->graph != NULL;
}

/* Weights that the checkpoint lacks are the adapter's alone: there is nothing to fold them into. */
static void take_fresh(Driver *d)
{
    for (int i = 0; i < d->graph->param_count; i++) {
        Param *param = d->graph->params[i];
        for (int k = 0; param->fresh && !param->adapter && k < d->result.merge_count; k++)
            if (!strcmp(d->result.merges[k].tensor, param->tensor)) {
                param->tensor = d->result.merges[k].b;
                param->adapter = true;
            }
    }
}

/* FLOPs of the model, with the method of `spec` if there is one, for a sequence of so many tokens. */
static bool count_flops(Driver *d, const PeftSpec *spec, int64_t tokens, double *flops)
{
    PeftResult ignored = {0};
    PassContext context = {.diag = &d->diag, .peft = spec, .peft_result = &ignored, .length = d->schedule.max_length,
                           .stop_after = "reach"};
    context.scratch = arena_new();
    Graph *copy = graph_clone(d->graph, d->arena);
    bool stopped, ok = passes_run(copy, &context, &stopped);
    arena_free(context.scratch);
    *flops = report_flops(copy, tokens);
    return ok;
}

/* Says why, and what keeping the adapter beside the base costs. */
static bool cannot_merge(Driver *d)
{
    double base, adapted;
    if (!read_capacities(d))
        return false;
    int64_t rows = d->schedule.max_length, tokens = rows - d->result.prefix - d->result.infix;
    if (!count_flops(d, NULL, tokens, &base) || !count_flops(d, &d->spec, rows, &adapted))
        return false;
    diag_error(&d->diag, nowhere,
               "'%s': %s cannot be merged (%s): it runs with %.3g %% more FLOPs, for %lld tokens; keep it beside the base with --with",
               option(d, OPTION_MERGE), d->result.method, d->result.cannot_merge, 100 * (adapted / base - 1), (long long)tokens);
    return false;
}

/* An adapter is tried on a copy: does it fit, all of it, and what does it change?  (A merge changes numbers, not the graph.) */
static bool try_adapter(Driver *d)
{
    if (!d->files.adapter)
        return true;
    PeftResult tried = {0};
    Graph *copy = graph_clone(d->graph, d->arena);
    if ((!option(d, OPTION_ANY_BASE) && !main_check_base(&d->files, &d->diag)) || !peft(copy, &d->spec, &tried, &d->diag) ||
        !main_check_all_used(&d->files, copy, &tried, &d->diag))
        return false;
    if (d->merging) {
        d->result = tried;
        take_fresh(d);
    }
    return !d->merging || !tried.cannot_merge || cannot_merge(d);
}

static bool run_passes(Driver *d, bool *stopped)
{
    PassContext context = {
        .diag = &d->diag,
        .peft = d->has_method && !d->merging ? &d->spec : NULL,
        .peft_result = &d->result,
        .training = d->schedule.training,
        .length = d->schedule.max_length,
        .no_dropout = d->no_dropout,
        .print_after = option(d, OPTION_PRINT_AFTER),
        .stop_after = option(d, OPTION_STOP_AFTER),
        .time_passes = option(d, OPTION_TIME_PASSES) != NULL,
        .out = stdout,
        .scratch = arena_new(),
    };
    *stopped = false;
    bool ok;
    if (option(d, OPTION_RUN_PASS)) {
        ok = pass_run_one(d->graph, &context, option(d, OPTION_RUN_PASS));
        if (ok)
            fputs(graph_print(d->graph, d->arena), stdout);
        *stopped = true;
    } else {
        ok = passes_run(d->graph, &context, stopped);
    }
    arena_free(context.scratch);
    return ok;
}

static bool asked_for(const Driver *d, OptionId id, const char *pass)
{
    const char *value = option(d, id);
    return value && (!strcmp(value, pass) || (id == OPTION_PRINT_AFTER && !strcmp(value, "all")));
}

/* Entries of the smallest table that is looked up by an input; 0: none is. */
static int64_t table_of(const Graph *graph, const char *input)
{
    int64_t entries = 0;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        bool lookup = node->op == OP_GATHER && node->inputs[1]->op == OP_INPUT && !strcmp(node->inputs[1]->attrs.name, input);
        if (lookup && (!entries || node->inputs[0]->type.dim[0] < entries))
            entries = node->inputs[0]->type.dim[0];
    }
    return entries;
}

static bool has_input(const Graph *graph, const char *name, DType dtype)
{
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->op == OP_INPUT && !strcmp(graph->nodes[i]->attrs.name, name) && graph->nodes[i]->type.dtype == dtype)
            return true;
    return false;
}

/* Where tables have rows for fewer positions than the description's `context` says, or it says nothing. */
static bool limit_positions(Driver *d)
{
    enum { LEARNED = 1 << 16 }; /* tokens that methods may add */
    int64_t upto = d->schedule.max_length + LEARNED, found = positions_of_tables(d->graph, upto);
    if (found == 0)
        diag_error(&d->diag, nowhere, "'%s': a lookup by positions has no row for the first of them", d->options.input);
    if (found < upto && (!d->graph->context || found < d->graph->context))
        d->graph->context = found;
    return found > 0;
}

/* What the runtime needs to know of the model, before passes take it apart. */
static void describe_model(Driver *d)
{
    const Node *logits = graph_find_output(d->graph, "logits");
    BackendOptions *b = &d->backend;
    b->logits = logits && logits->type.rank == 2 ? logits->type.dim[1] : 0;
    b->vocabulary = table_of(d->graph, "tokens");
    b->vocabulary = b->vocabulary ? b->vocabulary : b->logits;
    b->types = table_of(d->graph, "types");
    bool sequences = logits && logits->type.dim[0] == DIM_Q;
    b->task = sequences ? (has_input(d->graph, "labels", DT_F32) ? LRT_TASK_VALUES : LRT_TASK_CLASSES)
                        : has_input(d->graph, "targets", DT_I32) ? LRT_TASK_NEXT_TOKEN : LRT_TASK_TOKENS;
}

static bool make_schedule(Driver *d, bool *stopped)
{
    d->plan = schedule_graph(d->graph, &d->schedule, backend_attention_work, d->arena, &d->diag);
    if (!d->plan)
        return false;
    if (asked_for(d, OPTION_PRINT_AFTER, "plan"))
        fputs(schedule_print(d->plan, d->arena), stdout);
    *stopped = asked_for(d, OPTION_STOP_AFTER, "plan");
    return true;
}

static const char *output_name(Driver *d)
{
    if (option(d, OPTION_OUTPUT))
        return option(d, OPTION_OUTPUT);
    const char *base = strrchr(d->options.input, '/');
    base = base ? base + 1 : d->options.input;
    size_t length = strlen(base);
    if (length > 4 && !strcmp(base + length - 4, ".ldl"))
        length -= 4;
    static const char *const suffixes[WHAT_COUNT] = {"", "", ".ll", ".s", ".o", ""};
    return arena_format(d->arena, "%.*s%s%s", (int)length, base, d->schedule.training ? "-train" : "", suffixes[d->what]);
}

static bool write_program(Driver *d)
{
    const char *output = output_name(d);
    d->backend.method = d->has_method && !d->merging ? d->result.method : "";
    d->backend.settings = main_settings(&d->files, &d->spec, &d->result, d->has_method && !d->merging, d->arena);
    if (d->what != WHAT_PROGRAM) {
        EmitKind kind = d->what == WHAT_LLVM ? EMIT_LLVM : d->what == WHAT_ASM ? EMIT_ASSEMBLY : EMIT_OBJECT;
        return backend_emit(d->plan, &d->backend, kind, output, d->arena, &d->diag);
    }
    const char *runtime = main_find_runtime(d->arena, &d->diag);
    if (!runtime)
        return false;
    const char *object = arena_format(d->arena, "%s.%ld.o", output, (long)getpid());
    const char *linked = arena_format(d->arena, "%s.%ld.tmp", output, (long)getpid());
    bool ok = backend_emit(d->plan, &d->backend, EMIT_OBJECT, object, d->arena, &d->diag) &&
              backend_link(object, runtime, d->backend.openblas, linked, &d->diag);
    unlink(object);
    if (ok && !d->schedule.training)
        ok = main_add_image(&d->files, d->plan, &d->result, !d->merging, linked, d->arena, &d->diag);
    else if (ok && main_has_initial(&d->result))
        ok = main_add_initial(&d->files, &d->result, linked, d->arena, &d->diag);
    if (ok && rename(linked, output) != 0) {
        diag_error(&d->diag, nowhere, "cannot write '%s'", output);
        ok = false;
    }
    if (!ok)
        unlink(linked);
    return ok;
}

/* What the checkpoint lacks must come from an adapter, or be trained into one. */
static bool check_fresh(Driver *d)
{
    for (int i = 0; i < d->graph->param_count; i++) {
        const Param *param = d->graph->params[i];
        if (!param->fresh || param->adapter)
            continue;
        const char *remedy = d->schedule.training ? arena_format(d->arena, "train it with --train %s", param->role ? param->role : "ROLE")
                                                  : "give the adapter it was trained in with --merge or --with";
        diag_error(&d->diag, param->loc, "the checkpoint has no '%s'; %s", param->tensor, remedy);
        return false;
    }
    return true;
}

static bool compile(Driver *d)
{
    bool stopped = false;
    int what = WHAT_PROGRAM;
    if (!choose(d, OPTION_EMIT, emit_names, WHAT_COUNT, &what))
        return false;
    d->what = (EmitWhat)what;
    if (!d->options.input) {
        diag_error(&d->diag, nowhere, "no model given; try: loracc model.ldl --weights DIR --lora q,v");
        return false;
    }
    if (!read_adaptation(d) || !read_targets(d) || !read_model(d))
        return false;
    if (d->what == WHAT_LDL)
        return true;
    if (!read_types(d) || !try_adapter(d))
        return false;
    describe_model(d);
    if (!limit_positions(d) || !run_passes(d, &stopped) || stopped)
        return d->diag.errors == 0;
    if (!check_fresh(d))
        return false;
    if (d->what == WHAT_GRAPH)
        return fputs(graph_print(d->graph, d->arena), stdout) >= 0;
    if (!read_capacities(d) || !make_schedule(d, &stopped))
        return d->diag.errors == 0;
    if (option(d, OPTION_REPORT))
        report_print(d->graph, d->plan, &d->result, stdout, d->arena);
    if (stopped)
        return true;
    if (d->has_method && d->result.matched)
        fputs(d->result.matched, stderr);
    main_note_unread(&d->files, d->graph, d->arena, &d->diag);
    return write_program(d);
}

/* --- lists -------------------------------------------------------------------------------------------------------------------- */

static void list_settings(const PeftMethod *method)
{
    for (int i = 0; i < method->key_count; i++) {
        const PeftKey *key = &method->keys[i];
        printf("%s%s%s%s", i ? ", " : "                   ", key->name, key->fallback ? "=" : "", key->fallback ? key->fallback : "");
    }
    if (method->key_count)
        putchar('\n');
}

static void list_methods(void)
{
    for (int i = 0; i < peft_method_count; i++) {
        printf("%-18s %s\n", peft_methods[i]->name, peft_methods[i]->summary);
        list_settings(peft_methods[i]);
    }
    for (int i = 0; i < peft_variant_count; i++)
        printf("%-18s %s: %s:%s\n", peft_variants[i].name, peft_variants[i].summary, peft_variants[i].method, peft_variants[i].settings);
}

static bool print_list(const Options *options)
{
    if (options->value[OPTION_HELP])
        options_help(stdout);
    else if (options->value[OPTION_VERSION])
        puts("loracc 0.1.0");
    else if (options->value[OPTION_LIST_PASSES])
        for (int i = 0; i < pass_count; i++)
            printf("%-12s %s\n", pass_table[i].name, pass_table[i].summary);
    else if (options->value[OPTION_LIST_METHODS])
        list_methods();
    else if (options->value[OPTION_LIST_TARGETS])
        for (int i = 0; backend_tier_name(i); i++)
            puts(backend_tier_name(i));
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    Driver d = {.arena = arena_new(), .diag = diag_new(stderr)};
    bool ok = true;
    signal(SIGXFSZ, SIG_IGN);
    if (argc > 1 && !strcmp(argv[1], "verify")) {
        int status = main_verify(argc - 1, argv + 1, d.arena, &d.diag);
        arena_free(d.arena);
        return status;
    }
    ok = options_parse(&d.options, argc, argv, &d.diag);
    if (ok && !print_list(&d.options))
        ok = compile(&d);
    main_close(&d.files);
    arena_free(d.arena);
    return ok ? 0 : 2;
}
