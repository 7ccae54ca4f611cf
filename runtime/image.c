/* image.c - see image.h. */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include "runtime/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static bool inside(const LrtImage *image, int64_t offset, int64_t bytes)
{
    int64_t size = (int64_t)image->map.size;
    return offset >= 0 && bytes >= 0 && offset <= size && bytes <= size - offset;
}

bool lrt_image_open(LrtImage *image, const char *path, LrtError *error)
{
    *image = (LrtImage){0};
    if (!lrt_map_file(&image->map, path, error))
        return false;
    LrtTrailer *t = &image->trailer;
    bool ok = image->map.size > sizeof *t;
    if (ok)
        memcpy(t, image->map.data + image->map.size - sizeof *t, sizeof *t);
    ok = ok && !memcmp(t->magic, LRT_IMAGE_MAGIC, sizeof t->magic) && inside(image, t->weights_offset, t->weights_bytes) &&
         inside(image, t->tokenizer_offset, t->tokenizer_bytes) && inside(image, t->settings_offset, t->settings_bytes) &&
         t->weights_offset % LRT_IMAGE_PAGE == 0 && inside(image, 0, t->elf_bytes);
    if (!ok) {
        lrt_report(error, LRT_INVALID, "%s: the values behind its code are missing; it is not a whole program of loracc, compile it again",
                   path);
        lrt_image_close(image);
        return false;
    }
    image->weights = (char *)image->map.data + t->weights_offset;
    image->tokenizer = image->map.data + t->tokenizer_offset;
    image->settings = (const char *)image->map.data + t->settings_offset;
    return true;
}

bool lrt_image_open_self(LrtImage *image, LrtError *error)
{
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    return lrt_image_open(image, lrt_file_exists(self) ? self : "/proc/self/exe", error);
}

void lrt_image_close(LrtImage *image)
{
    lrt_unmap(&image->map);
    *image = (LrtImage){0};
}

static bool put(FILE *file, const void *data, size_t bytes)
{
    return bytes == 0 || fwrite(data, 1, bytes, file) == bytes;
}

bool lrt_image_append(const char *program, const char *weights, int64_t weights_bytes, const void *tokenizer, size_t tokenizer_bytes,
                      const char *settings, LrtError *error)
{
    static const char zeros[LRT_IMAGE_PAGE];
    FILE *file = fopen(program, "ab");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        if (file)
            fclose(file);
        return lrt_fail(error, LRT_FAILED, "cannot write '%s': %s", program, strerror(errno));
    }
    LrtTrailer t = {.elf_bytes = ftell(file), .weights_bytes = weights_bytes};
    t.weights_offset = (t.elf_bytes + LRT_IMAGE_PAGE - 1) / LRT_IMAGE_PAGE * LRT_IMAGE_PAGE;
    t.tokenizer_offset = t.weights_offset + weights_bytes;
    t.tokenizer_bytes = (int64_t)tokenizer_bytes;
    t.settings_offset = t.tokenizer_offset + t.tokenizer_bytes;
    t.settings_bytes = (int64_t)strlen(settings);
    t.weights_hash = XXH3_64bits(weights, (size_t)weights_bytes);
    memcpy(t.magic, LRT_IMAGE_MAGIC, sizeof t.magic);
    bool ok = put(file, zeros, (size_t)(t.weights_offset - t.elf_bytes)) && put(file, weights, (size_t)weights_bytes) &&
              put(file, tokenizer, tokenizer_bytes) && put(file, settings, (size_t)t.settings_bytes) &&
              put(file, &t, sizeof t) && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int code = errno;
    if (fclose(file) != 0)
        ok = false;
    return ok || lrt_fail(error, LRT_FAILED, "cannot write '%s': %s", program, strerror(code));
}
