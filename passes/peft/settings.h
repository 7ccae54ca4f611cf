/* settings.h - the adapter_config.json of what a method made: PEFT's form where PEFT has the method, else {"method": ...}. */
#pragma once
#include <jansson.h>

#include "passes/peft/rewrite.h"

/* JSON text (arena), keys sorted, two spaces of indent. */
const char *peft_settings(const PeftRewrite *r, const PeftMethod *method);

/* Slices of fused weights with pairs of their own are not in PEFT's form; then the result's `peft_settings` and `blocks` describe the
 * equivalent adapter that is. */
const char *peft_lora_settings(const PeftRewrite *r);
const char *peft_vera_settings(const PeftRewrite *r);
const char *peft_ia3_settings(const PeftRewrite *r);
const char *peft_prompt_settings(const PeftRewrite *r);
const char *peft_prefix_settings(const PeftRewrite *r);
/* "CAUSAL_LM", "SEQ_CLS", or NULL for what PEFT has no name for. */
const char *peft_task_type(const Graph *graph);

/* --- what the texts are made of ------------------------------------------------------------------------------------------- */

/* Takes over the object. */
const char *settings_text(Arena *arena, json_t *all);
/* The names sorted, none twice; null when there is none. */
json_t *settings_list(const char **names, int count);
/* The shortest end of a path, cut at a dot, that `only` accepts; the whole path if none is. */
const char *settings_name(const char *path, bool (*only)(const void *user, const char *name), const void *user);
/* The layers asked for, or null: all. */
json_t *settings_layers(const PeftSpec *spec);
/* PEFT's modules_to_save: modules trained whole, and what PEFT itself adds for a classifier. */
json_t *settings_saved(const PeftRewrite *r);
