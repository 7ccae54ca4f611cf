/* settings.h - the adapter_config.json of what a spec makes, in PEFT's form. */
#pragma once
#include "passes/peft/peft.h"

/* JSON text (arena), keys sorted, two spaces of indent. */
const char *peft_settings(Graph *graph, const PeftSpec *spec, const PeftResult *result);
