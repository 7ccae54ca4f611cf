/* op.c - see op.h. */
#include "ir/op.h"

#include <string.h>

#define VAR      (-1)
#define COMM     TRAIT_COMM
#define LEAF     TRAIT_LEAF
#define TUPLE    TRAIT_TUPLE
#define INTERNAL TRAIT_INTERNAL
#define MOVES    TRAIT_MOVES

const OpInfo op_info[OP_COUNT] = {
#define OP(id, text, in, attrs, traits, shape, grad, class, emit, mix)                         \
    [OP_##id] = {text, in, attrs, traits, OC_##class, MIX_##mix},
#include "ir/ops.def"
};

Op op_find(const char *text)
{
    int op = 0;
    while (op < OP_COUNT && strcmp(op_info[op].text, text) != 0)
        op++;
    return (Op)op;
}

int op_attention_inputs(Op op)
{
    switch (op) {
    case OP_ATTENTION: return 3;
    case OP_ATTENTION_GRAD:
    case OP_RELATIVE_ATTENTION: return 6;
    case OP_RELATIVE_ATTENTION_GRAD: return 9;
    default: return 0;
    }
}

static const Dims no_dims = {0};
#define DEFAULT_f64(x)  x
#define DEFAULT_int(x)  x
#define DEFAULT_bool(x) x
#define DEFAULT_dims(x) no_dims
#define DEFAULT_text(x) NULL

Attrs attrs_default(void)
{
    Attrs attrs;
    memset(&attrs, 0, sizeof attrs);
#define ATTR(id, field, kind, def) attrs.field = DEFAULT_##kind(def);
#include "ir/attrs.def"
    return attrs;
}

static bool equal_f64(double a, double b)
{
    return !memcmp(&a, &b, sizeof a);
}

static bool equal_int(int64_t a, int64_t b)
{
    return a == b;
}

static bool equal_bool(bool a, bool b)
{
    return a == b;
}

static bool equal_dims(Dims a, Dims b)
{
    return a.count == b.count && !memcmp(a.at, b.at, sizeof *a.at * (size_t)a.count);
}

static bool equal_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

bool attrs_equal(Op op, const Attrs *a, const Attrs *b)
{
    bool equal = true;
#define ATTR(id, field, kind, def)                                                             \
    if (op_info[op].attrs & A_##id)                                                            \
        equal = equal && equal_##kind(a->field, b->field);
#include "ir/attrs.def"
    return equal;
}

/* FNV-1a over the bytes. */
static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

static uint64_t hash_f64(uint64_t hash, double x)
{
    return mix(hash, &x, sizeof x);
}

static uint64_t hash_int(uint64_t hash, int64_t x)
{
    return mix(hash, &x, sizeof x);
}

static uint64_t hash_bool(uint64_t hash, bool x)
{
    return mix(hash, &x, sizeof x);
}

static uint64_t hash_dims(uint64_t hash, Dims x)
{
    return mix(hash, x.at, sizeof *x.at * (size_t)x.count);
}

static uint64_t hash_text(uint64_t hash, const char *x)
{
    return x ? mix(hash, x, strlen(x)) : hash;
}

uint64_t attrs_hash(Op op, const Attrs *attrs)
{
    uint64_t hash = 0xcbf29ce484222325u;
#define ATTR(id, field, kind, def)                                                             \
    if (op_info[op].attrs & A_##id)                                                            \
        hash = hash_##kind(hash, attrs->field);
#include "ir/attrs.def"
    return hash;
}
