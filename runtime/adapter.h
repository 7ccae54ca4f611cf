/* adapter.h - a PEFT folder: adapter_config.json and adapter_model.safetensors. */
#pragma once
#include "runtime/run.h"

/* Writes the adapter of a run into DIR (made if need be); each file appears whole or not at all. */
bool lrt_adapter_save(const LrtRun *run, const char *directory, LrtError *error);
/* Opens DIR/adapter_model.safetensors. */
LrtSafetensors *lrt_adapter_open(const char *directory, LrtError *error);
bool lrt_make_directory(const char *path, LrtError *error);
