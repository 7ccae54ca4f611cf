/* image.h - what a program carries behind its own code: an inference program its weights, tokenizer and settings; a training program
 * what its adapter begins as, if that was computed (initial.h).
 *
 *   [ELF image][padding to a page][weights image][tokenizer][settings JSON][trailer]
 *
 * The trailer is the file's last bytes; offsets in it are from the start of the file.  Nothing of this is in the ELF image, so two
 * programs that differ in weights have the same code. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/file.h"

#define LRT_IMAGE_MAGIC "LORACC\x01\n"
enum { LRT_IMAGE_PAGE = 4096 };

typedef struct LrtTrailer {
    int64_t elf_bytes;
    int64_t weights_offset, weights_bytes;
    int64_t tokenizer_offset, tokenizer_bytes; /* 0 bytes: none */
    int64_t settings_offset, settings_bytes;
    uint64_t weights_hash;
    char magic[8];
} LrtTrailer;

typedef struct LrtImage {
    LrtMap map;            /* the whole file */
    LrtTrailer trailer;
    char *weights;         /* mapped, page-aligned */
    const void *tokenizer;
    const char *settings;  /* not NUL-terminated */
} LrtImage;

/* Opens a program file and checks its trailer. */
bool lrt_image_open(LrtImage *image, const char *path, LrtError *error);
/* The running program's. */
bool lrt_image_open_self(LrtImage *image, LrtError *error);
void lrt_image_close(LrtImage *image);
/* Appends to a linked program, in place. */
bool lrt_image_append(const char *program, const char *weights, int64_t weights_bytes, const void *tokenizer, size_t tokenizer_bytes,
                      const char *settings, LrtError *error);
