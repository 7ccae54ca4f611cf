/* type.c - see type.h. */
#include "ir/type.h"

#include <string.h>

static const struct {
    const char *text;
    int bytes;
} dtypes[DT_COUNT] = {
#define DTYPE(id, text, bytes) [DT_##id] = {text, bytes},
#include "ir/dtypes.def"
};

const char *dtype_text(DType dtype)
{
    return dtypes[dtype].text;
}

int dtype_bytes(DType dtype)
{
    return dtypes[dtype].bytes;
}

bool dtype_parse(const char *text, DType *dtype)
{
    for (int i = 0; i < DT_COUNT; i++)
        if (!strcmp(text, dtypes[i].text)) {
            *dtype = (DType)i;
            return true;
        }
    return false;
}

Type type_scalar(DType dtype)
{
    return (Type){.dtype = dtype};
}

Type type_of(DType dtype, int rank, const int64_t *dims)
{
    Type type = {.dtype = dtype, .rank = rank};
    for (int i = 0; i < rank; i++)
        type.dim[i] = dims[i];
    return type;
}

bool type_equal(Type a, Type b)
{
    return a.dtype == b.dtype && a.rank == b.rank &&
           !memcmp(a.dim, b.dim, sizeof *a.dim * (size_t)a.rank);
}

bool dim_is_fixed(int64_t dim)
{
    return dim >= 0;
}

bool type_is_valid(Type type)
{
    for (int i = 0; i < type.rank; i++)
        if (type.dim[i] < -DIM_SYMBOLS || type.dim[i] == 0)
            return false;
    return type.rank >= 0 && type.rank <= MAX_RANK && type_elements(type, NULL) <= DIM_MAX;
}

int64_t type_elements(Type type, int *symbolic)
{
    int64_t elements = 1;
    int count = 0;
    for (int i = 0; i < type.rank; i++) {
        int64_t dim = type.dim[i];
        if (!dim_is_fixed(dim))
            count++;
        else
            elements = dim && elements > INT64_MAX / dim ? INT64_MAX : elements * dim;
    }
    if (symbolic)
        *symbolic = count;
    return elements;
}

const char *dim_str(Arena *arena, int64_t dim)
{
    if (dim >= 0)
        return arena_format(arena, "%lld", (long long)dim);
    return dim == DIM_T ? "T" : dim == DIM_S ? "S" : dim == DIM_R ? "R" : dim == DIM_Q ? "Q" : "?";
}

const char *type_str(Arena *arena, Type type)
{
    Text text = {.arena = arena};
    text_add(&text, dtype_text(type.dtype));
    for (int i = 0; i < type.rank; i++)
        text_format(&text, "%s%s", i ? ", " : "[", dim_str(arena, type.dim[i]));
    if (type.rank)
        text_add(&text, "]");
    return text.data;
}

bool type_broadcast(Type a, Type b, Type *result)
{
    *result = a.rank >= b.rank ? a : b;
    for (int i = 1; i <= result->rank; i++) {
        int64_t x = i <= a.rank ? a.dim[a.rank - i] : 1,
                y = i <= b.rank ? b.dim[b.rank - i] : 1;
        if (x != y && x != 1 && y != 1)
            return false;
        result->dim[result->rank - i] = x == 1 ? y : x;
    }
    return true;
}
