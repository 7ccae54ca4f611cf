/* gguf_names.h - a GGUF model in Hugging Face's terms. */
#pragma once
#include "runtime/gguf.h"

/* The config.json that the model would have; NULL with an error for an architecture that is not known here. */
json_t *gguf_config(const GgufFile *file, LrtError *error);
/* Fills `out` (room for all tensors) with the tensors under Hugging Face names (malloc'ed) and row order. */
bool gguf_rename(const GgufFile *file, LrtTensor *out, int *count, LrtError *error);
