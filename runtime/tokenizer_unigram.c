/* tokenizer_unigram.c - a text as its most likely pieces (Kudo, 2018): of all ways to cut it, the one with the largest sum of
 * the pieces' scores.  A character that is no piece is unknown and costs UNKNOWN_PENALTY more than the worst piece; unknown
 * characters behind each other are one token. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer_index.h"

static const double unknown_penalty = 10; /* SentencePiece's */

/* The best way to the end of a piece: its score, and the piece. */
typedef struct LrtNode {
    double score;
    size_t start;
    int32_t id; /* -1: no way found yet */
} Node;

/* --- the vocabulary in order ------------------------------------------------------------------------------------------------ */

typedef struct Piece {
    const uint8_t *bytes;
    size_t length;
    int32_t id;
} Piece;

static int by_bytes(const void *a, const void *b)
{
    const Piece *x = a, *y = b;
    const size_t common = x->length < y->length ? x->length : y->length;
    const int order = common ? memcmp(x->bytes, y->bytes, common) : 0;
    if (order || x->length != y->length)
        return order ? order : x->length < y->length ? -1 : 1;
    return x->id < y->id ? 1 : -1; /* of equal ones the last counts, as in the library */
}

bool lrt_index_pieces(LrtTokenizer *t)
{
    const LrtTokenizerModel *m = &t->model;
    double least = INFINITY;
    if (m->rules.kind != TOKENIZER_UNIGRAM)
        return true;
    Piece *pieces = malloc(sizeof *pieces * ((size_t)m->count + 1));
    t->pieces = malloc(sizeof *t->pieces * ((size_t)m->count + 1));
    for (int32_t id = 0; pieces && t->pieces && id < m->count; id++) {
        Piece *piece = &pieces[t->piece_count];
        *piece = (Piece){.id = id};
        piece->bytes = lrt_token_bytes(t, id, &piece->length);
        if (!isfinite(m->scores[id]))
            continue;
        least = m->scores[id] < least ? m->scores[id] : least;
        t->piece_count += piece->length && !(m->flags[id] & TOKEN_ADDED); /* those are found before */
    }
    if (pieces && t->pieces)
        qsort(pieces, (size_t)t->piece_count, sizeof *pieces, by_bytes);
    for (int32_t i = 0; pieces && t->pieces && i < t->piece_count; i++)
        t->pieces[i] = pieces[i].id;
    free(pieces);
    t->unknown_score = (isfinite(least) ? least : 0) - unknown_penalty;
    return pieces && t->pieces;
}

/* Narrows the pieces [*low, *high), which have the same first `depth` bytes, to those that go on with `byte`. */
static void narrow(const LrtTokenizer *t, size_t depth, uint8_t byte, int32_t *low, int32_t *high)
{
    int32_t bounds[2];
    for (int upper = 0; upper < 2; upper++) {
        int32_t a = *low, b = *high;
        while (a < b) {
            const int32_t middle = a + (b - a) / 2;
            size_t length;
            const uint8_t *bytes = lrt_token_bytes(t, t->pieces[middle], &length);
            if (length <= depth || (upper ? bytes[depth] <= byte : bytes[depth] < byte))
                a = middle + 1;
            else
                b = middle;
        }
        bounds[upper] = a;
    }
    *low = bounds[0];
    *high = bounds[1];
}

/* --- the best way ---------------------------------------------------------------------------------------------------------------- */

static void offer(Node *node, double score, size_t start, int32_t id)
{
    if (node->id < 0 || score > node->score)
        *node = (Node){score, start, id};
}

/* All pieces that begin at `start`, or an unknown character. */
static void go_on(const LrtTokenizer *t, Node *nodes, const uint8_t *text, size_t length, size_t start, size_t size)
{
    const double score = nodes[start].score;
    int32_t low = 0, high = t->piece_count;
    bool single = false;
    for (size_t depth = 0; start + depth < length; depth++) {
        narrow(t, depth, text[start + depth], &low, &high);
        if (low == high)
            break;
        size_t piece_length;
        lrt_token_bytes(t, t->pieces[low], &piece_length);
        if (piece_length != depth + 1) /* the shortest comes first */
            continue;
        offer(&nodes[start + depth + 1], score + t->model.scores[t->pieces[low]], start, t->pieces[low]);
        single = single || depth + 1 == size;
    }
    if (!single)
        offer(&nodes[start + size], score + t->unknown_score, start, t->model.rules.unknown);
}

static bool push_unknown(const LrtTokenizer *t, const uint8_t *text, size_t length, LrtIds *ids)
{
    bool bytes = t->model.rules.byte_fallback;
    for (size_t i = 0; bytes && i < length; i++)
        bytes = t->byte_token[text[i]] >= 0;
    for (size_t i = 0; bytes && i < length; i++)
        if (!lrt_ids_push(ids, t->byte_token[text[i]]))
            return false;
    return bytes || lrt_ids_push(ids, t->model.rules.unknown);
}

/* Turns the way round: each node of it gets the end of its piece. */
static void turn_round(Node *nodes, size_t length)
{
    size_t end = length, next = length;
    while (end > 0) {
        const size_t start = nodes[end].start;
        nodes[end].start = next;
        next = end;
        end = start;
    }
    nodes[0].start = next;
}

static bool push_way(const LrtTokenizer *t, const Node *nodes, const uint8_t *text, size_t length, LrtIds *ids)
{
    const int32_t unknown = t->model.rules.unknown;
    for (size_t start = 0; start < length;) {
        size_t end = nodes[start].start;
        const int32_t id = nodes[end].id;
        while (id == unknown && t->model.rules.fuse_unknown && end < length && nodes[nodes[end].start].id == unknown)
            end = nodes[end].start;
        if (id == unknown ? !push_unknown(t, text + start, end - start, ids) : !lrt_ids_push(ids, id))
            return false;
        start = end;
    }
    return true;
}

bool lrt_encode_unigram(const LrtTokenizer *t, LrtWord *word, const uint8_t *text, size_t length, LrtIds *ids)
{
    if (length + 1 > word->node_capacity) {
        Node *more = realloc(word->nodes, sizeof *more * (2 * length + 16));
        if (!more)
            return false;
        word->nodes = more;
        word->node_capacity = 2 * length + 16;
    }
    Node *nodes = word->nodes;
    for (size_t i = 0; i <= length; i++)
        nodes[i] = (Node){0, 0, -1};
    size_t size;
    for (size_t start = 0; start < length; start += size) {
        lrt_character_at(text, length, start, &size);
        go_on(t, nodes, text, length, start, size);
    }
    turn_round(nodes, length);
    return push_way(t, nodes, text, length, ids);
}
