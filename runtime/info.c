/* info.c - --info: what a program is, and the memory it plans. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/cpu.h"
#include "runtime/programs.h"
#include "runtime/run.h"

_Bool lrt_print_info(const LrtProgram *p, const char *tier, int threads, _Bool json, LrtError *error)
{
    int chosen = lrt_choose_tier(p, tier, error);
    int64_t arena, weights, runtime, planned = lrt_planned_bytes(p, threads, &arena, &weights, &runtime);
    if (chosen < 0)
        return 0;
    json_t *settings = json_loads(p->settings, 0, NULL);
    const char *core = lrt_openblas_core();
    const char *hash = json_string_value(json_object_get(settings, "base_hash"));
    if (json) {
        json_t *all =
            json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s*}", "model", p->model, "kind",
                      p->kind == LRT_TRAIN ? "train" : "infer", "method", p->method, "tier", lrt_tier_name(chosen), "threads", threads,
                      "planned_bytes", (json_int_t)planned, "arena_bytes", (json_int_t)arena, "weights_bytes", (json_int_t)weights,
                      "runtime_bytes", (json_int_t)runtime, "bytes_per_token", (json_int_t)p->bytes_per_token, "max_tokens",
                      (json_int_t)p->max_tokens, "max_length", (json_int_t)p->max_length, "vocabulary", (json_int_t)p->vocabulary,
                      "base_hash", hash ? hash : "", "gemm", core ? "openblas" : "own", "openblas_core", core);
        char *text = json_dumps(all, JSON_INDENT(2));
        if (text)
            puts(text);
        free(text);
        json_decref(all);
    } else {
        printf("model            %s (%s%s%s)\ntier             %s\ncapacity         %lld tokens in flight, sequences of %lld\n",
               p->model, p->kind == LRT_TRAIN ? "training" : "inference", *p->method ? ", " : "", p->method, lrt_tier_name(chosen),
               (long long)p->max_tokens, (long long)p->max_length);
        printf("products         %s%s\n", core ? "OpenBLAS for " : "own kernels", core ? core : "");
        printf("planned memory   %lld MiB: arena %lld, weights %lld, runtime %lld (%d threads)\n", (long long)(planned >> 20),
               (long long)(arena >> 20), (long long)(weights >> 20), (long long)(runtime >> 20), threads);
        printf("bytes per token  %lld\nbase             %s\n", (long long)p->bytes_per_token, hash ? hash : "");
    }
    json_decref(settings);
    return 1;
}
