/* file.c - see file.h, and the end of checkpoint.h. */
#define _GNU_SOURCE
#include "runtime/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/checkpoint.h"

bool lrt_map_file(LrtMap *map, const char *path, LrtError *error)
{
    *map = (LrtMap){0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return lrt_fail(error, LRT_INVALID, "%s: %s", path, strerror(errno));
    struct stat status;
    bool ok = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
    if (!ok) {
        lrt_report(error, LRT_INVALID, "%s: not a regular file", path);
    } else if (status.st_size > 0) {
        map->size = (size_t)status.st_size;
        map->data = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, file, 0);
        map->mapped = map->data != MAP_FAILED;
        if (!map->mapped) {
            map->data = NULL;
            ok = lrt_fail(error, LRT_FAILED, "%s: cannot map it: %s", path, strerror(errno));
        }
    }
    close(file);
    return ok;
}

void lrt_unmap(LrtMap *map)
{
    if (map->mapped)
        munmap(map->data, map->size);
    *map = (LrtMap){0};
}

char *lrt_path_join(const char *directory, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

bool lrt_is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool lrt_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* --- atomic output ------------------------------------------------------------------------------------------- */

bool lrt_output_open(LrtOutput *output, const char *path, LrtError *error)
{
    *output = (LrtOutput){0};
    output->path = strdup(path);
    if (asprintf(&output->temporary, "%s.%ld.tmp", path, (long)getpid()) < 0)
        output->temporary = NULL;
    if (!output->path || !output->temporary) {
        lrt_report(error, LRT_FAILED, "out of memory");
    } else {
        output->file = fopen(output->temporary, "wb");
        if (output->file)
            return true;
        lrt_report(error, LRT_FAILED, "cannot write '%s': %s", path, strerror(errno));
    }
    free(output->path);
    free(output->temporary);
    *output = (LrtOutput){0};
    return false;
}

bool lrt_output_write(LrtOutput *output, const void *data, size_t size, LrtError *error)
{
    if (size == 0 || fwrite(data, 1, size, output->file) == size)
        return true;
    return lrt_fail(error, LRT_FAILED, "cannot write '%s': %s", output->path, strerror(errno));
}

/* A rename is only safe on disk once the directory is. */
static void sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *directory = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int file = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (file >= 0) {
        fsync(file);
        close(file);
    }
    free(directory);
}

bool lrt_output_close(LrtOutput *output, bool keep, LrtError *error)
{
    bool ok = true;
    if (!output->file)
        return true;
    if (keep && (fflush(output->file) != 0 || fsync(fileno(output->file)) != 0))
        ok = lrt_fail(error, LRT_FAILED, "cannot write '%s': %s", output->path, strerror(errno));
    if (fclose(output->file) != 0 && keep)
        ok = lrt_fail(error, LRT_FAILED, "cannot write '%s': %s", output->path, strerror(errno));
    if (ok && keep && rename(output->temporary, output->path) != 0)
        ok = lrt_fail(error, LRT_FAILED, "cannot write '%s': %s", output->path, strerror(errno));
    if (ok && keep)
        sync_directory(output->path);
    else
        unlink(output->temporary);
    free(output->path);
    free(output->temporary);
    *output = (LrtOutput){0};
    return ok;
}

bool lrt_file_write(const char *path, const void *data, size_t size, LrtError *error)
{
    LrtOutput output;
    if (!lrt_output_open(&output, path, error))
        return false;
    bool ok = lrt_output_write(&output, data, size, error);
    return lrt_output_close(&output, ok, error) && ok;
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

enum { JSON_MAX = 256 * 1024 * 1024 };

json_t *lrt_json_read(const char *path, LrtError *error)
{
    LrtMap map;
    if (!lrt_map_file(&map, path, error))
        return NULL;
    json_t *root = NULL;
    json_error_t where;
    if (map.size > JSON_MAX)
        lrt_report(error, LRT_INVALID, "%s: larger than %d bytes", path, JSON_MAX);
    else if (!(root = json_loadb((const char *)map.data, map.size, JSON_REJECT_DUPLICATES, &where)))
        lrt_report(error, LRT_INVALID, "%s:%d:%d: not valid JSON: %s", path, where.line, where.column, where.text);
    lrt_unmap(&map);
    return root;
}
