/* config.h - a PeftSpec from what the user writes: --lora, --method, or an adapter's adapter_config.json. */
#pragma once
#include "passes/peft/peft.h"

/* "q,v" or "q=8:16,v=4" (rank and alpha per role).  Rank and alpha as defaults for what the text leaves open. */
bool peft_parse_lora(PeftSpec *spec, const char *text, Arena *arena, Diag *diag);
/* "6:12" or "0,3,6:12". */
bool peft_parse_layers(PeftSpec *spec, const char *text, Arena *arena, Diag *diag);
/* "NAME" or "NAME:key=value,...": a method or a variant of one, with settings.  With an adapter given (spec->tensors) it has to be
 * the adapter's method. */
bool peft_parse_method(PeftSpec *spec, const char *text, Arena *arena, Diag *diag);
void peft_defaults(PeftSpec *spec, const PeftMethod *method, Arena *arena);
bool peft_set_key(PeftSpec *spec, const PeftMethod *method, const char *name, const char *value, const char *origin, Arena *arena,
                  Diag *diag);
/* Comma-separated names. */
const char *const *peft_parse_names(const char *text, int *count, Arena *arena);
/* The text of an adapter_config.json (PEFT's, or a documented one without peft_type).  Fields that change the result and are not
 * supported are refused by name.  `path` is for messages. */
bool peft_parse_config(PeftSpec *spec, const char *json, const char *path, Arena *arena, Diag *diag);
