/* temp_files.h - files that a test writes, in a folder that goes with it. */
#pragma once
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char temp_folder[32];

static inline void temp_open(void)
{
    strcpy(temp_folder, "/tmp/loracc_test_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(temp_folder));
}

static inline void temp_close(void)
{
    DIR *folder = opendir(temp_folder);
    ck_assert_ptr_nonnull(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    rmdir(temp_folder);
}

/* FOLDER/NAME; good until the eighth next call. */
static inline const char *temp_path(const char *name)
{
    static char paths[8][96];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof *paths, "%s/%s", temp_folder, name);
    return path;
}

/* Writes FOLDER/NAME; its path as above. */
static inline const char *temp_write(const char *name, const void *data, size_t size)
{
    const char *path = temp_path(name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

static inline const char *temp_text(const char *name, const char *text)
{
    return temp_write(name, text, strlen(text));
}
