/* adapter.h - a PEFT folder: adapter_config.json and adapter_model.safetensors. */
#pragma once
#include "runtime/run.h"

/* Writes the adapter of a run into DIR (made if need be); each file appears whole or not at all.  The identity of the base it was
 * trained on and the names of its classes go into the file's metadata.  Slices of fused weights that were trained by themselves have
 * tensors that PEFT does not know; the equivalent adapter that it can load goes to DIR/peft. */
bool lrt_adapter_save(const LrtRun *run, const char *directory, LrtError *error);
/* Opens DIR/adapter_model.safetensors; loralib's names become ours. */
LrtSafetensors *lrt_adapter_open(const char *directory, LrtError *error);
/* {"id2label": {"0": "no", ...}}, as a config.json has it: the classes that it was trained to tell apart; NULL: it names none. */
json_t *lrt_adapter_names(const LrtSafetensors *adapter);
/* An adapter that says which base it was trained on, and names another than this one, is an error.  PEFT's do not say. */
bool lrt_adapter_check_base(const LrtSafetensors *adapter, const char *directory, const LrtCheckpoint *base, LrtError *error);
bool lrt_make_directory(const char *path, LrtError *error);
