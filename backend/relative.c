/* relative.c - see relative.h. */
#include "backend/relative.h"

RelativePlaces relative_places(const AttentionSpec *spec, int64_t from, bool backward)
{
    int64_t row = attention_width(spec) * 4, rows = BAND * row, turned = attention_width(spec) * BAND_PITCH;
    int64_t scores = ATTENTION_BLOCK * BAND_PITCH, table = backward ? (spec->buckets + BAND) * row : 0;
    RelativePlaces p = {.bytes = from};
    if (!spec->relative)
        return p;
    p.kr = from;
    p.qr = p.kr + rows;
    p.kr_t = p.qr + rows;
    p.qr_t = p.kr_t + turned;
    p.p = p.qr_t + turned;
    p.pk = p.p + scores;
    p.d_kr = p.pk + scores;
    p.d_qr = p.d_kr + table;
    p.bytes = p.d_qr + table;
    return p;
}

static Val at(RelativeBlock *b, int64_t offset)
{
    return ll_at_const(b->e, emit_param(b->e, KERNEL_SCRATCH), offset);
}

/* The table's entry of `distance`, which is brought within reach (i64, or in lanes its first). */
static Val entry(RelativeBlock *b, Val distance)
{
    Emit *e = b->e;
    int64_t reach = b->spec->reach;
    Val near = ll_max(e, ll_min(e, distance, ll_i64(e, reach)), ll_i64(e, -reach));
    return ll_at(e, operand_pointer(e, b->spec->table), ll_mul(e, ll_add(e, near, ll_i64(e, reach)), ll_i64(e, 4)));
}

static Val bucket(RelativeBlock *b, Val distance)
{
    Val value = ll_load(b->e, b->e->t_f32, entry(b, distance), 4);
    return LLVMBuildFPToSI(b->e->builder, value, b->e->t_i64, "");
}

static Val table_rows(RelativeBlock *b, Operand table, Val first)
{
    return attention_rows(b->e, table, first, b->head, b->spec->head_dim);
}

/* Rows of the band, as they are and turned; product with `rows` of x. */
static void load_term(RelativeBlock *b, Operand table, int64_t to, int64_t turned, int64_t product, Val x, Val rows, double scale)
{
    Emit *e = b->e;
    int vectors = (int)(b->row / (LANES * 4));
    Val count = ll_min(e, ll_sub(e, ll_i64(e, b->spec->buckets), b->band), ll_i64(e, BAND));
    emit_block_load(e, table_rows(b, table, b->band), table.pitch, count, BAND, b->spec->head_dim, at(b, to), b->row, scale);
    emit_block_transpose(e, at(b, to), b->row, BAND, vectors, at(b, turned), BAND_PITCH);
    Block block = {b->row, BAND_PITCH, LANES * 4, BAND_PITCH, BAND / LANES, false, false, b->spec->openblas};
    emit_block(e, &block, x, at(b, turned), at(b, product), rows, ll_i64(e, b->spec->head_dim), NULL);
}

void relative_load(RelativeBlock *b, Val q, Val k, Val query_count, double scale)
{
    Emit *e = b->e;
    Val nearest = ll_sub(e, b->query, ll_add(e, b->key, ll_i64(e, ATTENTION_BLOCK - 1)));
    b->band = bucket(b, nearest);
    if (b->spec->relative & 1)
        load_term(b, b->spec->kr, b->places.kr, b->places.kr_t, b->places.p, q, query_count, 1);
    if (b->spec->relative & 2)
        load_term(b, b->spec->qr, b->places.qr, b->places.qr_t, b->places.pk, k, ll_i64(e, ATTENTION_BLOCK), scale);
}

/* <16 x float> of what lies at base + 4 * lanes' offsets. */
static Val pick(Emit *e, Val base, Val offsets)
{
    Val pointers = LLVMBuildGEP2(e->builder, e->t_f32, base, &offsets, 1, "");
    LLVMTypeRef overloads[] = {e->t_vec, LLVMVectorType(e->t_ptr, LANES)};
    Val all = LLVMConstAllOnes(e->t_mask);
    return ll_intrinsic(e, "llvm.masked.gather", overloads, 2, (Val[]){pointers, ll_i32(e, 4), all, ll_vec(e, 0)}, 4);
}

static Val reversed(Emit *e, Val vec)
{
    int lanes[LANES];
    for (int i = 0; i < LANES; i++)
        lanes[i] = LANES - 1 - i;
    return ll_shuffle(e, vec, vec, lanes);
}

/* Buckets, counted from the band's first, of query r and 16 keys from `first` on: the distance falls along the lanes. */
static Val band_places(RelativeBlock *b, Val r, int first)
{
    Emit *e = b->e;
    Val last = ll_add(e, b->key, ll_i64(e, first + LANES - 1));
    Val distance = ll_sub(e, ll_add(e, b->query, r), last);
    Val numbers = reversed(e, ll_load(e, e->t_vec, entry(b, distance), 4));
    Val places = LLVMBuildFPToSI(e->builder, numbers, e->t_ivec, "");
    return ll_sub(e, places, ll_splat(e, LLVMBuildTrunc(e->builder, b->band, e->t_i32, "")));
}

Val relative_scores(RelativeBlock *b, Val r, int first)
{
    Emit *e = b->e;
    Val places = band_places(b, r, first), sum = NULL;
    if (b->spec->relative & 1)
        sum = pick(e, ll_at(e, at(b, b->places.p), ll_mul(e, r, ll_i64(e, BAND_PITCH))), places);
    if (b->spec->relative & 2) {
        Val rows = ll_mul(e, ll_add(e, ll_lanes(e), ll_ivec(e, first)), ll_ivec(e, BAND_PITCH / 4));
        Val other = pick(e, at(b, b->places.pk), ll_add(e, places, rows));
        sum = sum ? ll_fadd(e, sum, other) : other;
    }
    return sum;
}

/* *to += value */
static void add_at(Emit *e, Val to, Val value)
{
    ll_store(e, ll_fadd(e, ll_load(e, e->t_f32, to, 4), value), to, 4);
}

/* Each dS is added to its bucket's place, of the query and of the key. */
static void spread(RelativeBlock *b, Val d_s, Val query_count, Val key_count)
{
    Emit *e = b->e;
    int64_t bytes = 2 * ATTENTION_BLOCK * BAND_PITCH; /* pk follows p */
    Loop clear = loop_begin(e, ll_i64(e, 0), ll_i64(e, bytes), ll_i64(e, LANES * 4), NULL, 0, true);
    ll_store(e, ll_vec(e, 0), ll_at(e, at(b, b->places.p), clear.index), 4);
    loop_end(e, &clear, NULL, NULL);
    Loop rows = loop_begin(e, ll_i64(e, 0), query_count, ll_i64(e, 1), NULL, 0, false);
    Loop keys = loop_begin(e, ll_i64(e, 0), key_count, ll_i64(e, 1), NULL, 0, false);
    Val distance = ll_sub(e, ll_add(e, b->query, rows.index), ll_add(e, b->key, keys.index));
    Val place = ll_mul(e, ll_sub(e, bucket(b, distance), b->band), ll_i64(e, 4));
    Val from = ll_at(e, ll_at(e, d_s, ll_mul(e, rows.index, ll_i64(e, ATTENTION_PITCH))), ll_mul(e, keys.index, ll_i64(e, 4)));
    Val value = ll_load(e, e->t_f32, from, 4);
    if (b->spec->relative & 1)
        add_at(e, ll_at(e, ll_at(e, at(b, b->places.p), ll_mul(e, rows.index, ll_i64(e, BAND_PITCH))), place), value);
    if (b->spec->relative & 2)
        add_at(e, ll_at(e, ll_at(e, at(b, b->places.pk), ll_mul(e, keys.index, ll_i64(e, BAND_PITCH))), place), value);
    loop_end(e, &keys, NULL, NULL);
    loop_end(e, &rows, NULL, NULL);
}

/* d_x += dP band,  d_table += dP' x */
static void term_gradients(RelativeBlock *b, int64_t product, int64_t table, int64_t d_table, Val x, Val d_x, Val rows)
{
    Emit *e = b->e;
    int vectors = (int)(b->row / (LANES * 4));
    Block to_x = {BAND_PITCH, b->row, LANES * 4, b->row, vectors, false, true, b->spec->openblas};
    emit_block(e, &to_x, at(b, product), at(b, table), d_x, rows, ll_i64(e, BAND), NULL);
    Block to_table = {BAND_PITCH, b->row, LANES * 4, b->row, vectors, true, true, b->spec->openblas};
    Val sums = ll_at(e, at(b, d_table), ll_mul(e, b->band, ll_i64(e, b->row)));
    emit_block(e, &to_table, at(b, product), x, sums, ll_i64(e, BAND), rows, NULL);
}

void relative_gradients(RelativeBlock *b, Val d_s, Val q, Val k, Val d_q, Val d_k, Val query_count, Val key_count)
{
    spread(b, d_s, query_count, key_count);
    if (b->spec->relative & 1)
        term_gradients(b, b->places.p, b->places.kr, b->places.d_kr, q, d_q, query_count);
    if (b->spec->relative & 2)
        term_gradients(b, b->places.pk, b->places.qr, b->places.d_qr, k, d_k, key_count);
}
