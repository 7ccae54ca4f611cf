/* relative.c - see relative.h. */
#include "backend/relative.h"

enum { DIAGONALS = BAND - 1, MIDDLE = ATTENTION_BLOCK - 1 };

RelativePlaces relative_places(const AttentionSpec *spec, int64_t from, bool backward)
{
    int64_t row = attention_width(spec) * 4, band = BAND * ATTENTION_PITCH, table = spec->buckets * row;
    RelativePlaces p = {.bytes = from};
    if (!spec->relative)
        return p;
    p.kr = from;
    p.qr = p.kr + BAND * row;
    p.q_t = p.qr + BAND * row;
    p.p = p.q_t + attention_width(spec) * ATTENTION_PITCH;
    p.pk = p.p + band;
    p.diagonals = p.pk + band;
    p.rows = p.diagonals + band;
    p.d_kr = p.rows + ATTENTION_BLOCK * BAND_PITCH;
    p.d_qr = p.d_kr + (backward && spec->d_kr.slot >= 0 ? table : 0);
    p.bytes = p.d_qr + (backward && spec->d_qr.slot >= 0 ? table : 0);
    return p;
}

static Val at(RelativeBlock *b, int64_t offset)
{
    return ll_at_const(b->e, emit_param(b->e, KERNEL_SCRATCH), offset);
}

/* The bucket of diagonal x; distances are brought within reach of the table. */
static Val bucket(RelativeBlock *b, Val x)
{
    Emit *e = b->e;
    int64_t reach = b->spec->reach;
    Val distance = ll_sub(e, ll_add(e, ll_sub(e, b->query, b->key), ll_i64(e, MIDDLE)), x);
    Val near = ll_max(e, ll_min(e, distance, ll_i64(e, reach)), ll_i64(e, -reach));
    Val entry = ll_at(e, operand_pointer(e, b->spec->table), ll_mul(e, ll_add(e, near, ll_i64(e, reach)), ll_i64(e, 4)));
    return LLVMBuildFPToSI(e->builder, ll_load(e, e->t_f32, entry, 4), e->t_i64, "");
}

static Val table_rows(RelativeBlock *b, Operand table, Val first)
{
    return attention_rows(b->e, table, first, b->head, b->spec->head_dim);
}

/* Rows of the band, and their product with what is turned already. */
static void load_term(RelativeBlock *b, Operand table, int64_t to, int64_t product, Val turned, double scale)
{
    Emit *e = b->e;
    emit_block_load(e, table_rows(b, table, b->band), table.pitch, b->count, 0, b->spec->head_dim, at(b, to), b->row, scale);
    Block block = {b->row, ATTENTION_PITCH, LANES * 4, ATTENTION_PITCH, ATTENTION_BLOCK / LANES, false, false, b->spec->openblas};
    emit_block(e, &block, at(b, to), turned, at(b, product), b->count, ll_i64(e, b->spec->head_dim), NULL);
}

/* A loop over the diagonals, and the places that belong to one: 16 queries each, and of pk the 16 keys that are theirs.  Keys past an
 * end of their row fall into a neighbouring row, or one that no bucket has. */
typedef struct Diagonal {
    Loop loop;
    Val scores, p, pk;
} Diagonal;

static Diagonal diagonal_begin(RelativeBlock *b)
{
    Emit *e = b->e;
    Loop loop = loop_begin(e, ll_i64(e, 0), ll_i64(e, DIAGONALS), ll_i64(e, 1), NULL, 0, true);
    Val row = ll_mul(e, ll_sub(e, bucket(b, loop.index), b->band), ll_i64(e, ATTENTION_PITCH));
    Val keys = ll_at(e, at(b, b->places.pk - 4 * MIDDLE), ll_mul(e, loop.index, ll_i64(e, 4)));
    Val scores = ll_at(e, at(b, b->places.diagonals), ll_mul(e, loop.index, ll_i64(e, ATTENTION_PITCH)));
    return (Diagonal){loop, scores, ll_at(e, at(b, b->places.p), row), ll_at(e, keys, row)};
}

static Val load_lanes(Emit *e, Val base, int first)
{
    return ll_load(e, e->t_vec, ll_at_const(e, base, first * 4), 4);
}

static void store_lanes(Emit *e, Val value, Val base, int first)
{
    ll_store(e, value, ll_at_const(e, base, first * 4), 4);
}

/* What the products say of each pair. */
static void gather(RelativeBlock *b)
{
    Emit *e = b->e;
    Diagonal d = diagonal_begin(b);
    for (int r = 0; r < ATTENTION_BLOCK; r += LANES) {
        Val sum = b->spec->relative & 1 ? load_lanes(e, d.p, r) : NULL;
        if (b->spec->relative & 2)
            sum = sum ? ll_fadd(e, sum, load_lanes(e, d.pk, r)) : load_lanes(e, d.pk, r);
        store_lanes(e, sum, d.scores, r);
    }
    loop_end(e, &d.loop, NULL, NULL);
    emit_block_transpose(e, at(b, b->places.diagonals), ATTENTION_PITCH, BAND, ATTENTION_BLOCK / LANES, at(b, b->places.rows),
                         BAND_PITCH);
}

void relative_load(RelativeBlock *b, Val q, Val k_t, double scale)
{
    Emit *e = b->e;
    int vectors = (int)(b->row / (LANES * 4));
    b->band = bucket(b, ll_i64(e, DIAGONALS - 1));
    b->count = ll_add(e, ll_sub(e, bucket(b, ll_i64(e, 0)), b->band), ll_i64(e, 1));
    if (b->spec->relative & 1) {
        emit_block_transpose(e, q, b->row, ATTENTION_BLOCK, vectors, at(b, b->places.q_t), ATTENTION_PITCH);
        load_term(b, b->spec->kr, b->places.kr, b->places.p, at(b, b->places.q_t), 1);
    }
    if (b->spec->relative & 2)
        load_term(b, b->spec->qr, b->places.qr, b->places.pk, k_t, scale);
    gather(b);
}

/* Query r's scores of keys 0, 1, ... */
static Val pairs_of(RelativeBlock *b, Val r)
{
    Emit *e = b->e;
    Val row = ll_at(e, at(b, b->places.rows + 4 * MIDDLE), ll_mul(e, r, ll_i64(e, BAND_PITCH)));
    return ll_at(e, row, ll_mul(e, r, ll_i64(e, -4)));
}

Val relative_scores(RelativeBlock *b, Val r, int first)
{
    return load_lanes(b->e, pairs_of(b, r), first);
}

/* Each dS is added to its bucket's place, of the query and of the key. */
static void spread(RelativeBlock *b, Val d_s, Val query_count)
{
    Emit *e = b->e;
    emit_block_clear(e, at(b, b->places.rows), ll_i64(e, ATTENTION_BLOCK * BAND_PITCH));
    Loop rows = loop_begin(e, ll_i64(e, 0), query_count, ll_i64(e, 1), NULL, 0, true);
    Val from = ll_at(e, d_s, ll_mul(e, rows.index, ll_i64(e, ATTENTION_PITCH))), to = pairs_of(b, rows.index);
    for (int c = 0; c < ATTENTION_BLOCK; c += LANES)
        store_lanes(e, load_lanes(e, from, c), to, c);
    loop_end(e, &rows, NULL, NULL);
    emit_block_transpose(e, at(b, b->places.rows), BAND_PITCH, ATTENTION_BLOCK, BAND / LANES, at(b, b->places.diagonals),
                         ATTENTION_PITCH);
    Val used = ll_mul(e, b->count, ll_i64(e, ATTENTION_PITCH));
    if (b->spec->relative & 1)
        emit_block_clear(e, at(b, b->places.p), used);
    if (b->spec->relative & 2)
        emit_block_clear(e, at(b, b->places.pk), used);
    Diagonal d = diagonal_begin(b);
    for (int r = 0; r < ATTENTION_BLOCK; r += LANES) {
        Val value = load_lanes(e, d.scores, r);
        if (b->spec->relative & 1)
            store_lanes(e, ll_fadd(e, load_lanes(e, d.p, r), value), d.p, r);
        if (b->spec->relative & 2)
            store_lanes(e, ll_fadd(e, load_lanes(e, d.pk, r), value), d.pk, r);
    }
    loop_end(e, &d.loop, NULL, NULL);
}

/* d_x += dP' band,  d_table += dP x where it is wanted */
static void term_gradients(RelativeBlock *b, int64_t product, int64_t table, int64_t d_table, bool wanted, Val x, Val d_x, Val rows)
{
    Emit *e = b->e;
    int vectors = (int)(b->row / (LANES * 4));
    Block to_x = {ATTENTION_PITCH, b->row, LANES * 4, b->row, vectors, true, true, b->spec->openblas};
    emit_block(e, &to_x, at(b, product), at(b, table), d_x, rows, b->count, NULL);
    if (!wanted)
        return;
    Block to_table = {ATTENTION_PITCH, b->row, LANES * 4, b->row, vectors, false, true, b->spec->openblas};
    Val sums = ll_at(e, at(b, d_table), ll_mul(e, b->band, ll_i64(e, b->row)));
    emit_block(e, &to_table, at(b, product), x, sums, b->count, rows, NULL);
}

void relative_gradients(RelativeBlock *b, Val d_s, Val q, Val k, Val d_q, Val d_k, Val query_count, Val key_count)
{
    const AttentionSpec *spec = b->spec;
    const RelativePlaces *p = &b->places;
    spread(b, d_s, query_count);
    if (spec->relative & 1)
        term_gradients(b, p->p, p->kr, p->d_kr, spec->d_kr.slot >= 0, q, d_q, query_count);
    if (spec->relative & 2)
        term_gradients(b, p->pk, p->qr, p->d_qr, spec->d_qr.slot >= 0, k, d_k, key_count);
}
