/* settings.h - the adapter_config.json of what a method made: PEFT's form where PEFT has the method, else {"method": ...}. */
#pragma once
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
