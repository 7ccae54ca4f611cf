/* loralib.h - reads adapters that were trained with Microsoft's loralib. */
#pragma once
#include <jansson.h>

#include "runtime/checkpoint.h"

/* Its tensors are called MODULE.lora_A and MODULE.lora_B, where PEFT's end with `.weight`. */
bool lrt_is_loralib(const LrtSafetensors *file);
/* Gives the tensors of the file at PATH the names that adapters have here.  The config's "parts" are the roles of the slices of fused
 * weights that have factors, in the order of the slices. */
bool lrt_loralib_rename(LrtSafetensors *file, const char *path, const json_t *config, LrtError *error);
