/* backend.h - from a schedule to a native object and a linked program. */
#pragma once
#include "ir/diag.h"
#include "ir/schedule.h"

typedef enum EmitKind { EMIT_LLVM, EMIT_ASSEMBLY, EMIT_OBJECT } EmitKind;

typedef struct BackendOptions {
    bool tiers[3];           /* enum LrtTier: which to generate */
    const char *method;      /* "lora"; "" for plain inference */
    const char *settings;    /* JSON text for the runtime */
    int64_t vocabulary;      /* token ids are below it */
    int64_t types;           /* token types are below it; 0: the model has none */
    int64_t logits;          /* columns of the logits */
    int task;                /* enum LrtTask */
    int64_t prefix, infix;   /* learned tokens of a sequence */
    bool virtual_logits, predict_first;
    bool openblas;           /* products call OpenBLAS instead of our kernels; such a program is linked with it */
} BackendOptions;

/* Bytes of working memory of an attention's backward kernel (AttentionWork of schedule.h). */
int64_t backend_attention_work(const Node *attention_grad, int64_t max_tokens);

/* Writes LLVM text, assembly or an object to `path`; false after reporting errors. */
bool backend_emit(const Schedule *schedule, const BackendOptions *options, EmitKind kind, const char *path, Arena *arena,
                  Diag *diag);

/* Links OBJECT with the runtime library into a static, position-independent program where the system allows it, otherwise a dynamic one.
 * `runtime` is the library's path; `openblas`: with -lopenblas, too. */
bool backend_link(const char *object, const char *runtime, bool openblas, const char *program, Diag *diag);

const char *backend_tier_name(int tier); /* NULL past the last */
