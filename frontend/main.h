/* main.h - what the driver's files share: checkpoint and adapter files on one side, the compiler's interfaces on the other. */
#pragma once
#include "frontend/options.h"
#include "ir/checkpoint.h"
#include "ir/schedule.h"
#include "passes/peft/peft.h"
#include "runtime/checkpoint.h"

typedef struct ModelFiles {
    LrtCheckpoint *checkpoint;   /* NULL: compiled without weights */
    json_t *config;              /* --config */
    json_t *overrides;           /* --set, or NULL */
    Checkpoint view;             /* for the frontend */
    const Checkpoint *interface; /* &view, or NULL */
    const char *weights_path;    /* absolute */
    const char *folder;          /* the same where it is a directory, as Python's tools want it */
    LrtSafetensors *adapter;     /* --adapter, --merge, --with */
    const char *adapter_path;    /* absolute directory */
    const char *adapter_config;  /* text */
} ModelFiles;

/* `set`: KEY=VALUE,... that win over the config's; NULL: none. */
bool main_open_checkpoint(ModelFiles *files, const char *weights, const char *config, const char *set, Arena *arena, Diag *diag);
/* No model of a kind that cannot be described: encoder-decoders, mixtures of experts, state-space models. */
bool main_check_family(const Checkpoint *checkpoint, Diag *diag);
/* What is trained, merged or kept beside the base; nothing: spec->method stays NULL. */
bool main_read_adaptation(const Options *options, ModelFiles *files, PeftSpec *spec, Arena *arena, Diag *diag);
bool main_read_adapter(ModelFiles *files, const char *path, PeftSpec *spec, Arena *arena, Diag *diag);
/* The adapter was trained on this checkpoint, if it says on which. */
bool main_check_base(const ModelFiles *files, Diag *diag);
/* Every tensor of the adapter has its place in `graph` (after the peft pass) or in the merge. */
bool main_check_all_used(const ModelFiles *files, const Graph *graph, const PeftResult *result, Diag *diag);
/* Notes which tensors of the checkpoint `graph` has no parameter for: masks and other heads, as a rule, but perhaps a bias that the
 * description forgot. */
void main_note_unread(const ModelFiles *files, const Graph *graph, Arena *arena, Diag *diag);
void main_close(ModelFiles *files);

/* JSON for the runtime: {"weights": PATH, "adapter": PATH, "base_hash": ..., "adapter_config": TEXT, "peft": {"config": TEXT,
 * "blocks": {TENSOR: [WHOLE, rows, columns, row, column, factor], ...}}, "initial": true, "network": [table, embedding,
 * weight1, bias1, weight2, bias2]}; "peft" where the adapter's form is not PEFT's, "initial" where its pairs begin as a part of the
 * weights, "network" where a PeftNetwork makes one of its tensors. */
const char *main_settings(const ModelFiles *files, const PeftSpec *spec, const PeftResult *result, bool adapted, Arena *arena);
/* The runtime library: beside the compiler in a build, in ../lib/loracc when installed, or LORACC_RUNTIME. */
const char *main_find_runtime(Arena *arena, Diag *diag);
/* Appends weights and tokenizer to a linked inference program.  The adapter is folded into the weights, unless it is kept `beside`
 * them; without one, `adaptation` has no merges. */
bool main_add_image(ModelFiles *files, const Schedule *schedule, const PeftResult *adaptation, bool beside, const char *program,
                    Arena *arena, Diag *diag);
/* loracc verify BASE MERGED; returns the exit status. */
int main_verify(int argc, char **argv, Arena *arena, Diag *diag);
