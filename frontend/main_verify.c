/* main_verify.c - loracc verify BASE MERGED: is it the same code, and what did merging do to the weights? */
#define XXH_INLINE_ALL
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "frontend/main.h"
#include "runtime/image.h"

static const Loc nowhere = {0};

typedef struct Section {
    const uint8_t *data;
    size_t size;
} Section;

/* A section of the program's ELF image; size 0: none. */
static Section find_section(const LrtImage *image, const char *name)
{
    const uint8_t *base = image->map.data;
    size_t size = (size_t)image->trailer.elf_bytes;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)base;
    Section none = {NULL, 0};
    if (size < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_shoff > size ||
        (size - header->e_shoff) / sizeof(Elf64_Shdr) < header->e_shnum || header->e_shstrndx >= header->e_shnum)
        return none;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(base + header->e_shoff);
    const Elf64_Shdr *names = &sections[header->e_shstrndx];
    if (names->sh_offset > size || names->sh_size > size - names->sh_offset)
        return none;
    for (int i = 0; i < header->e_shnum; i++) {
        const Elf64_Shdr *s = &sections[i];
        if (s->sh_name >= names->sh_size || s->sh_type == SHT_NOBITS || s->sh_offset > size || s->sh_size > size - s->sh_offset)
            continue;
        if (!strncmp((const char *)base + names->sh_offset + s->sh_name, name, names->sh_size - s->sh_name))
            return (Section){base + s->sh_offset, (size_t)s->sh_size};
    }
    return none;
}

static bool compare_section(const LrtImage *a, const LrtImage *b, const char *name)
{
    Section x = find_section(a, name), y = find_section(b, name);
    bool same = x.size && x.size == y.size && !memcmp(x.data, y.data, x.size);
    printf("%-14s %016llx %016llx %10zu bytes  %s\n", name, (unsigned long long)XXH3_64bits(x.data, x.size),
           (unsigned long long)XXH3_64bits(y.data, y.size), x.size, same ? "identical" : "DIFFERENT");
    return same;
}

static json_t *settings_of(const LrtImage *image)
{
    return json_loadb(image->settings, (size_t)image->trailer.settings_bytes, 0, NULL);
}

static int64_t setting(const json_t *settings, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(settings, key));
}

static bool compare_bytes(const json_t *a, const json_t *b)
{
    int64_t x = setting(a, "bytes_per_token"), y = setting(b, "bytes_per_token"), file = setting(a, "file_bytes_per_token");
    printf("%-14s %lld and %lld bytes of weights read  %s", "per token", (long long)x, (long long)y, x == y ? "identical" : "DIFFERENT");
    if (file)
        printf("; the checkpoint's own form has %lld, %.2f times as many", (long long)file, (double)file / (double)x);
    putchar('\n');
    return x == y;
}

/* What storage made of each tensor's update. */
static void print_merge(const json_t *report)
{
    size_t i;
    json_t *entry;
    if (!json_array_size(report)) {
        puts("nothing was merged into the second program");
        return;
    }
    printf("\n%-52s %14s %11s %13s %10s %9s\n", "merged tensor", "largest update", "RMS update", "largest error", "RMS error", "survives");
    json_array_foreach(report, i, entry)
    {
        static const char *const keys[] = {"largest_update", "rms_update", "largest_error", "rms_error"};
        static const int widths[] = {15, 12, 14, 11};
        printf("%-52s", json_string_value(json_object_get(entry, "tensor")));
        for (int k = 0; k < 4; k++)
            printf("%*.3g", widths[k], json_real_value(json_object_get(entry, keys[k])));
        printf(" %8.2f%%\n", 100 * json_real_value(json_object_get(entry, "survives")));
    }
    puts("error: stored weight against the exact W + s B A; survives: share of the update that is in the stored weights\n");
}

int main_verify(int argc, char **argv, Arena *arena, Diag *diag)
{
    LrtError error = {LRT_OK, ""};
    LrtImage base = {0}, merged = {0};
    (void)arena;
    if (argc != 3) {
        diag_error(diag, nowhere, "usage: loracc verify BASE MERGED");
        return 2;
    }
    bool ok = lrt_image_open(&base, argv[1], &error) && lrt_image_open(&merged, argv[2], &error);
    if (!ok) {
        diag_error(diag, nowhere, "%s", error.text);
        lrt_image_close(&base);
        return 2;
    }
    static const char *const sections[] = {".text", ".rodata", ".data.rel.ro", ".data"};
    bool same = true;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        same = compare_section(&base, &merged, sections[i]) && same;
    bool bytes = base.trailer.weights_bytes == merged.trailer.weights_bytes;
    printf("%-14s %lld and %lld bytes carried  %s\n", "weights", (long long)base.trailer.weights_bytes,
           (long long)merged.trailer.weights_bytes, bytes ? "identical" : "DIFFERENT");
    json_t *a = settings_of(&base), *b = settings_of(&merged);
    bytes = compare_bytes(a, b) && bytes;
    print_merge(json_object_get(b, "merge"));
    puts(same && bytes ? "the merged program costs what the base program costs" : "the programs are not the same code");
    json_decref(a);
    json_decref(b);
    lrt_image_close(&base);
    lrt_image_close(&merged);
    return same && bytes ? 0 : 1;
}
