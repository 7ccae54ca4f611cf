/* test_checkpoint.c - what the runtime reads from disk: numbers of every stored type,
 * safetensors files, Hugging Face directories, GGUF files, and files that lie about themselves.
 *
 * Known answers: blocks made by ggml's own quantisers and the errors they leave; the goldens,
 * written as llama.cpp's converter writes them. */
#define _XOPEN_SOURCE 700 /* mkdtemp, nftw */
#include <check.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/checkpoint.h"
#include "runtime/gguf.h"

#define COUNT_OF(array) ((int)(sizeof(array) / sizeof *(array)))
#define GOLDENS         LORACC_SOURCE "/tests/data/goldens/"

__extension__ typedef _Float16 Half;

/* --- files of a test --- */

static char folder[64];

static void make_folder(void)
{
    strcpy(folder, "/tmp/loracc-checkpoint-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static int remove_one(const char *path, const struct stat *status, int flag, struct FTW *walk)
{
    (void)status, (void)flag, (void)walk;
    return remove(path);
}

static void remove_folder(void)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* The path of a file of this test; good until the eighth next call. */
static const char *path_of(const char *name)
{
    static char paths[8][256];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof *paths, "%s/%s", folder, name);
    return path;
}

static const char *put_file(const char *name, const void *data, size_t size)
{
    const char *path = path_of(name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    fclose(file);
    return path;
}

static const char *put_text(const char *name, const char *text)
{
    return put_file(name, text, strlen(text));
}

static LrtCheckpoint *open_good(const char *path)
{
    LrtError error = {0};
    LrtCheckpoint *checkpoint = lrt_checkpoint_open(path, &error);
    ck_assert_msg(checkpoint != NULL, "%s", error.text);
    ck_assert_int_eq(error.status, LRT_OK);
    return checkpoint;
}

/* Refused, with one line that names the file and says `what`. */
static void expect_refused(const char *path, const char *file, const char *what)
{
    LrtError error = {0};
    LrtCheckpoint *checkpoint = lrt_checkpoint_open(path, &error);
    ck_assert_msg(!checkpoint, "%s is opened (%s)", path, what);
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(strstr(error.text, file) != NULL, "'%s' does not name %s", error.text, file);
    ck_assert_msg(strstr(error.text, what) != NULL, "'%s' does not say '%s'", error.text, what);
    ck_assert_msg(!strchr(error.text, '\n'), "more than a line: '%s'", error.text);
}

static uint32_t next_random(uint32_t *state)
{
    return *state = *state * 1664525u + 1013904223u;
}

/* --- numbers --- */

static size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t size = strlen(hex) / 2;
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
        bytes[i] = (uint8_t)byte;
    }
    return size;
}

static float half_at(const uint8_t *bytes)
{
    Half half;
    memcpy(&half, bytes, 2);
    return (float)half;
}

static void put_half(uint8_t *bytes, float value)
{
    Half half = (Half)value;
    memcpy(bytes, &half, 2);
}

static void read_all(LrtDtype dtype, const uint8_t *data, int64_t count, float *out)
{
    LrtError error = {0};
    LrtTensor tensor = {.name = "t", .dtype = dtype, .rank = 1, .shape = {count}, .data = data};
    ck_assert(lrt_tensor_read_rows(&tensor, 0, 1, out, &error));
}

/* The block types by their definition: a half d, for some a half m, a bit of each number, and
 * the other four bits: those of element e < 16 below those of e + 16.  `first` and RMSE: ggml's
 * bytes for the first 32 of `wave`, and what it loses over 256. */
static const struct Quantised {
    LrtDtype dtype;
    int bytes, bits;
    bool has_m;
    const char *first;
    double rmse;
    const char *ramp; /* (e - 15.5) / 8 */
} types[] = {
    {LRT_Q4_0, 18, 4, false, "bc2fe456b89b31161d5920ba94674acef43f", .0395392552,
     "c033809191a2a2b3b3c4c4d5d5e6e6f7f7f8"},
    {LRT_Q4_1, 20, 4, true, "1d30bcbbd355a88b31151c5820ba946649bde33f", .036155913,
     "2234c0bf80809191a2a2b3b3c4c4d5d5e6e6f7f7"},
    {LRT_Q5_0, 22, 5, false, "bc2bccb20d66c7ac6017713c29a2407538cd838be75f", .0180016551,
     "c02f0000ffff102132435465768798a9bacbdcedfeff"},
    {LRT_Q5_1, 24, 5, true, "f72bbcbbccb20d66b7ab5016613b28a1406428cd828ad75f", .0162475351,
     NULL},
    {LRT_Q8_0, 34, 8, false,
     "cc1fbbde01368ade480f8125beec1858ba7e5fd33008b5988fd09f3616e0c24271ab", .00225597271,
     "d0238189919aa2aab2bac3cbd3dbe3ecf4fc040c141d252d353d464e565e666f777f"},
};

static float by_definition(const struct Quantised *type, const uint8_t *block, int e)
{
    const float d = half_at(block);
    if (type->bits == 8)
        return (float)(int8_t)block[2 + e] * d;
    const uint8_t *numbers = block + type->bytes - 16, *bit = numbers - 4;
    int q = numbers[e % 16] / (e < 16 ? 1 : 16) % 16;
    if (type->bits == 5)
        q += 16 * (bit[e / 8] >> e % 8 & 1);
    if (type->has_m)
        return (float)q * d + half_at(block + 2);
    return (float)(q - (type->bits == 5 ? 16 : 8)) * d;
}

/* ggml's reference quantiser of a block, from its rules. */
static void quantise(const struct Quantised *type, const float *x, uint8_t *block)
{
    float most = 0, min = x[0], max = x[0];
    for (int e = 0; e < 32; e++) {
        most = fabsf(x[e]) > fabsf(most) ? x[e] : most;
        min = fminf(min, x[e]);
        max = fmaxf(max, x[e]);
    }
    const int top = (1 << type->bits) - 1, half = 1 << (type->bits - 1);
    const float d = type->bits == 8 ? fabsf(most) / 127
                    : type->has_m   ? (max - min) / (float)top
                                    : most / (float)-half;
    memset(block, 0, (size_t)type->bytes);
    put_half(block, d);
    if (type->has_m)
        put_half(block + 2, min);
    for (int e = 0; e < 32; e++) {
        const float scaled = type->has_m ? (x[e] - min) * (1 / d) : x[e] * (1 / d);
        if (type->bits == 8) {
            block[2 + e] = (uint8_t)(int8_t)roundf(scaled);
            continue;
        }
        int q = (int)(scaled + (type->has_m ? 0.5f : (float)half + 0.5f));
        q = q > top ? top : q;
        block[type->bytes - 16 + e % 16] |= (uint8_t)(q % 16 << (e < 16 ? 0 : 4));
        if (type->bits == 5)
            block[type->bytes - 20 + e / 8] |= (uint8_t)(q / 16 << e % 8);
    }
}

START_TEST(blocks_are_what_ggml_makes)
{
    const struct Quantised *type = &types[_i];
    float wave[256], out[256];
    uint8_t blocks[8 * 34], want[34];
    uint32_t state = 1;
    for (int i = 0; i < 256; i++)
        wave[i] = (float)((int)(next_random(&state) >> 16) - 32768) / 32768;
    ck_assert_float_eq_tol(wave[0], -0.527099609f, 1e-9);
    for (int b = 0; b < 8; b++)
        quantise(type, wave + 32 * b, blocks + b * type->bytes);
    ck_assert_uint_eq(from_hex(type->first, want), (size_t)type->bytes);
    ck_assert_mem_eq(blocks, want, (size_t)type->bytes);
    read_all(type->dtype, blocks, 256, out);
    double sum = 0;
    for (int i = 0; i < 256; i++)
        sum += ((double)out[i] - wave[i]) * ((double)out[i] - wave[i]);
    ck_assert_double_eq_tol(sqrt(sum / 256), type->rmse, 4e-9); /* given as a float */
    if (!type->ramp)
        return;
    ck_assert_uint_eq(from_hex(type->ramp, want), (size_t)type->bytes);
    read_all(type->dtype, want, 32, out);
    /* half a step; a step at the end that does not fit its bits */
    const double step = fabs((double)half_at(want)),
                 slack = step * (type->bits == 8 ? .6 : 1.01);
    for (int e = 0; e < 32; e++)
        ck_assert_double_eq_tol(out[e], (e - 15.5) / 8, slack);
}
END_TEST

static void expect_same_number(float got, float want)
{
    ck_assert_msg((isnan(got) && isnan(want)) || !memcmp(&got, &want, sizeof got), "%a, not %a",
                  (double)got, (double)want);
}

START_TEST(blocks_follow_their_definition)
{
    enum { BLOCKS = 500 };
    const struct Quantised *type = &types[_i];
    uint8_t blocks[BLOCKS * 34];
    float out[BLOCKS * 32];
    uint32_t state = 7;
    for (size_t i = 0; i < sizeof blocks; i++)
        blocks[i] = (uint8_t)(next_random(&state) >> 24);
    read_all(type->dtype, blocks, BLOCKS * 32, out);
    for (int i = 0; i < BLOCKS * 32; i++)
        expect_same_number(out[i], by_definition(type, blocks + i / 32 * type->bytes, i % 32));
}
END_TEST

START_TEST(halves_are_exact)
{
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint8_t bytes[2] = {(uint8_t)bits, (uint8_t)(bits >> 8)};
        const uint32_t wide = bits << 16;
        float got, want;
        read_all(LRT_F16, bytes, 1, &got);
        expect_same_number(got, half_at(bytes));
        read_all(LRT_BF16, bytes, 1, &got);
        memcpy(&want, &wide, 4);
        expect_same_number(got, want);
    }
    static const struct {
        LrtDtype dtype;
        uint8_t bytes[8];
        float value;
    } known[] = {
        {LRT_F16, {0x00, 0x3c}, 1},
        {LRT_F16, {0x00, 0xc0}, -2},
        {LRT_F16, {0x01, 0x00}, 0x1p-24f},
        {LRT_F16, {0xff, 0x7b}, 65504},
        {LRT_F16, {0x55, 0x35}, 0x1.554p-2f},
        {LRT_F16, {0x00, 0x7c}, INFINITY},
        {LRT_BF16, {0x80, 0x3f}, 1},
        {LRT_BF16, {0x49, 0x40}, 3.140625f},
        {LRT_F32, {0, 0, 0x80, 0xbe}, -.25f},
        {LRT_F64, {0, 0, 0, 0, 0, 0, 0xe0, 0xbf}, -.5f},
        {LRT_I32, {0xfe, 255, 255, 255}, -2},
        {LRT_I64, {0, 1}, 256},
        {LRT_U8, {200}, 200},
        {LRT_BOOL, {1}, 1},
    };
    for (int i = 0; i < COUNT_OF(known); i++) {
        float got;
        read_all(known[i].dtype, known[i].bytes, 1, &got);
        expect_same_number(got, known[i].value);
    }
}
END_TEST

/* --- safetensors --- */

#define MINIMAL_HEADER                                                                         \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                                   \
    "\"base_model.model.x.lora_A.weight\":"                                                    \
    "{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"                              \
    "\"base_model.model.x.lora_B.weight\":"                                                    \
    "{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[8,16]}}   "

#define BYTES(...) (const uint8_t *)&(__VA_ARGS__)

START_TEST(an_adapter_is_written_as_the_library_does)
{
    static const float a[2] = {.5f, -.25f}, b[2] = {0};
    const LrtTensor tensors[] = {
        {"base_model.model.x.lora_B.weight", LRT_F32, 2, {2, 1}, .data = BYTES(b)},
        {"base_model.model.x.lora_A.weight", LRT_F32, 2, {1, 2}, .data = BYTES(a)}};
    LrtError error = {0};
    ck_assert(lrt_safetensors_write(path_of("a.safetensors"), tensors, 2, NULL, &error));
    uint8_t want[232] = {0xd0}, got[240];
    memcpy(want + 8, MINIMAL_HEADER, 208);
    from_hex("0000003f000080be", want + 216);
    FILE *file = fopen(path_of("a.safetensors"), "rb");
    ck_assert_uint_eq(fread(got, 1, sizeof got, file), sizeof want);
    fclose(file);
    ck_assert_mem_eq(got, want, sizeof want);
}
END_TEST

static int entries(const char *path)
{
    char command[512], line[64];
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", path);
    FILE *pipe = popen(command, "r");
    ck_assert(pipe && fgets(line, sizeof line, pipe));
    pclose(pipe);
    return atoi(line);
}

START_TEST(what_is_written_is_read)
{
    static const float f[6] = {1, -2, 3.5f, INFINITY, 0x1p-149f, -0.0f}, scalar = 7;
    static const int64_t i64[2] = {INT64_MIN, INT64_MAX};
    static const int32_t i32[3] = {-1, 0, INT32_MAX};
    const LrtTensor tensors[] = {{"z", LRT_F32, 2, {2, 3}, .data = BYTES(f)},
                                 {"ints", LRT_I32, 1, {3}, .data = BYTES(i32)},
                                 {"empty", LRT_F32, 2, {0, 4}, .data = BYTES(f)},
                                 {"Zed \"\xc3\xa9\"", LRT_F32, 0, {0}, .data = BYTES(scalar)},
                                 {"long", LRT_I64, 4, {1, 2, 1, 1}, .data = BYTES(i64)}};
    static const char *const order[] = {"long", "Zed \"\xc3\xa9\"", "empty", "z", "ints"};
    static const char *const metadata[] = {"step", "12", "note", "a \"b\"\n", NULL};
    const char *path = path_of("w.safetensors");
    LrtError error = {0};
    for (int pass = 0; pass < 2; pass++) /* the second writes over the first */
        ck_assert(lrt_safetensors_write(path, tensors, 5, metadata, &error));
    ck_assert_int_eq(entries(folder), 1);
    LrtSafetensors *file = lrt_safetensors_open(path, &error);
    ck_assert_msg(file != NULL, "%s", error.text);
    ck_assert_str_eq(lrt_safetensors_metadata(file, "format"), "pt");
    ck_assert_str_eq(lrt_safetensors_metadata(file, "step"), "12");
    ck_assert_str_eq(lrt_safetensors_metadata(file, "note"), "a \"b\"\n");
    ck_assert_ptr_null(lrt_safetensors_metadata(file, "none"));
    ck_assert_ptr_null(lrt_safetensors_find(file, "none"));
    ck_assert_int_eq(lrt_safetensors_count(file), 5);
    const uint8_t *next = lrt_safetensors_tensor(file, 0)->data;
    ck_assert_uint_eq((uintptr_t)next % 8, 0); /* mapped at a page, so aligned in the file */
    for (int i = 0; i < 5; i++) {
        const LrtTensor *got = lrt_safetensors_find(file, tensors[i].name);
        ck_assert_ptr_nonnull(got);
        ck_assert_int_eq(got->dtype, tensors[i].dtype);
        ck_assert_int_eq(got->rank, tensors[i].rank);
        ck_assert(
            !memcmp(got->shape, tensors[i].shape, sizeof *got->shape * (size_t)got->rank));
        ck_assert(!memcmp(got->data, tensors[i].data, got->bytes));
        const LrtTensor *placed = lrt_safetensors_find(file, order[i]);
        ck_assert_msg(placed->data == next, "%s is not number %d", order[i], i);
        next += placed->bytes;
    }
    int64_t integers[3];
    float reals[6];
    ck_assert(lrt_tensor_read_integers(lrt_safetensors_find(file, "long"), integers, &error));
    ck_assert(integers[0] == INT64_MIN && integers[1] == INT64_MAX);
    ck_assert(lrt_tensor_read_integers(lrt_safetensors_find(file, "ints"), integers, &error));
    ck_assert(integers[0] == -1 && integers[2] == INT32_MAX);
    ck_assert(lrt_tensor_read_rows(lrt_safetensors_find(file, "z"), 1, 1, reals, &error));
    ck_assert(!memcmp(reals, f + 3, 12));
    ck_assert(lrt_tensor_read_rows(lrt_safetensors_find(file, "empty"), 0, 0, reals, &error));
    ck_assert(!lrt_tensor_read_rows(lrt_safetensors_find(file, "z"), 1, 2, reals, &error));
    ck_assert(strstr(error.text, "'z'") != NULL);
    error = (LrtError){0};
    ck_assert(!lrt_tensor_read_integers(lrt_safetensors_find(file, "z"), integers, &error));
    lrt_safetensors_close(file);
    error = (LrtError){0};
    ck_assert(!lrt_safetensors_write(path_of("no/w.safetensors"), tensors, 5, NULL, &error));
    ck_assert(error.status == LRT_FAILED && strstr(error.text, "no/w.safetensors") != NULL);
    ck_assert_int_eq(entries(folder), 1);
}
END_TEST

/* --- Hugging Face directories --- */

static float *numbers_of(const LrtTensor *tensor)
{
    LrtError error = {0};
    const int64_t rows = tensor->rank > 1 ? tensor->shape[0] : 1;
    float *numbers = malloc(sizeof *numbers * (size_t)(lrt_tensor_elements(tensor) + 1));
    ck_assert_msg(lrt_tensor_read_rows(tensor, 0, rows, numbers, &error), "%s", error.text);
    return numbers;
}

static void expect_same_tensors(const LrtCheckpoint *got, const LrtCheckpoint *want)
{
    ck_assert_int_eq(lrt_checkpoint_count(got), lrt_checkpoint_count(want));
    for (int i = 0; i < lrt_checkpoint_count(want); i++) {
        const LrtTensor *x = lrt_checkpoint_tensor(want, i);
        const LrtTensor *y = lrt_checkpoint_find(got, x->name);
        ck_assert_msg(y != NULL, "no tensor '%s'", x->name);
        ck_assert_int_eq(x->rank, y->rank);
        for (int d = 0; d < x->rank; d++)
            ck_assert_int_eq(x->shape[d], y->shape[d]);
        const size_t bytes = sizeof(float) * (size_t)lrt_tensor_elements(x);
        float *a = numbers_of(x), *b = numbers_of(y);
        ck_assert_msg(!memcmp(a, b, bytes), "'%s' is different", x->name);
        const int64_t rows = x->rank > 1 ? x->shape[0] : 1;
        const size_t row = bytes / (size_t)rows;
        LrtError error = {0}; /* the last row alone */
        ck_assert(lrt_tensor_read_rows(y, rows - 1, 1, b, &error));
        ck_assert_msg(!memcmp((char *)a + bytes - row, b, row), "last row of '%s'", x->name);
        free(a);
        free(b);
    }
}

/* The golden in two files with an index; returns the checkpoint it was made from. */
static LrtCheckpoint *put_shards(void)
{
    LrtCheckpoint *golden = open_good(GOLDENS "llama");
    LrtTensor parts[2][64];
    int counts[2] = {0};
    char names[2][64];
    json_t *map = json_object(), *index = json_pack("{s:o}", "weight_map", map);
    LrtError error = {0};
    for (int s = 0; s < 2; s++)
        snprintf(names[s], sizeof *names, "model-%05d-of-00002.safetensors", s + 1);
    for (int i = 0; i < lrt_checkpoint_count(golden); i++) {
        const LrtTensor *tensor = lrt_checkpoint_tensor(golden, i);
        json_object_set_new(map, tensor->name, json_string(names[i % 3 % 2]));
        parts[i % 3 % 2][counts[i % 3 % 2]++] = *tensor;
    }
    for (int s = 0; s < 2; s++)
        ck_assert(lrt_safetensors_write(path_of(names[s]), parts[s], counts[s], NULL, &error));
    ck_assert_int_eq(json_dump_file(index, path_of("model.safetensors.index.json"), 0), 0);
    json_decref(index);
    put_text("config.json", "{\"model_type\": \"llama\"}");
    return golden;
}

START_TEST(shards_are_one_checkpoint)
{
    LrtCheckpoint *golden = put_shards(), *shards = open_good(folder);
    expect_same_tensors(shards, golden);
    ck_assert_str_eq(lrt_checkpoint_path(shards), folder);
    ck_assert_ptr_null(lrt_checkpoint_tokenizer_path(shards));
    const json_t *type = json_object_get(lrt_checkpoint_config(shards), "model_type");
    ck_assert_str_eq(json_string_value(type), "llama");
    ck_assert_uint_eq(lrt_checkpoint_hash(shards), lrt_checkpoint_hash(golden));
    lrt_checkpoint_close(shards);
    put_text("vocab.txt", "[UNK]\n");
    shards = open_good(folder);
    ck_assert_str_eq(lrt_checkpoint_tokenizer_path(shards), path_of("vocab.txt"));
    lrt_checkpoint_close(shards);
    put_text("tokenizer.json", "{}");
    shards = open_good(folder);
    ck_assert_str_eq(lrt_checkpoint_tokenizer_path(shards), path_of("tokenizer.json"));
    lrt_checkpoint_close(shards);
    LrtCheckpoint *lone = open_good(GOLDENS "llama/model.safetensors");
    expect_same_tensors(lone, golden);
    ck_assert(json_equal((json_t *)lrt_checkpoint_config(lone),
                         (json_t *)lrt_checkpoint_config(golden)));
    lrt_checkpoint_close(lone);
    lone = open_good(GOLDENS "llama/inputs.safetensors");
    ck_assert_uint_ne(lrt_checkpoint_hash(lone), lrt_checkpoint_hash(golden));
    lrt_checkpoint_close(lone);
    lrt_checkpoint_close(golden);
    put_file("lone.safetensors", "\2\0\0\0\0\0\0\0{}", 10);
    ck_assert_int_eq(unlink(path_of("config.json")), 0);
    lone = open_good(path_of("lone.safetensors"));
    ck_assert_int_eq(lrt_checkpoint_count(lone), 0);
    ck_assert_ptr_null(lrt_checkpoint_config(lone));
    lrt_checkpoint_close(lone);
}
END_TEST

/* File SPOILT gets TEXT (NULL: is removed); the message names FILE. */
static const struct {
    const char *spoilt, *text, *file, *what;
} bad_directories[] = {
    {"model-00002-of-00002.safetensors", NULL, "model-00002-of-00002", "No such file"},
    {"model-00002-of-00002.safetensors", "short", "model-00002-of-00002", "too short"},
    {"config.json", NULL, "config.json", "No such file"},
    {"config.json", "", "config.json", "not valid JSON"},
    {"config.json", "{\n\"a\": 1,\n}", "config.json:3:", "not valid JSON"},
    {"config.json", "{\"a\": 1, \"a\": 2}", "config.json", "duplicate"},
    {"config.json", "{} {}", "config.json", "not valid JSON"},
    {"config.json", "[]", "config.json", "not a JSON object"},
    {"model.safetensors", "short", "model.safetensors", "too short"},
    {"model.safetensors.index.json", NULL, "/tmp/loracc", "neither"},
    {"model.safetensors.index.json", "{", "index.json:1:", "not valid JSON"},
    {"model.safetensors.index.json", "[]", "index.json", "weight_map"},
    {"model.safetensors.index.json", "{\"weight_map\": 1}", "index.json", "weight_map"},
    {"model.safetensors.index.json", "{\"weight_map\": {}}", "index.json", "weight_map"},
    {"model.safetensors.index.json", "{\"weight_map\": {\"a\": 1}}", "index.json", "'a'"},
    {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"..\"}}", "index.json", "'a'"},
    {"model.safetensors.index.json", "{\"weight_map\": {\"a\": \"../b\"}}", "index.json",
     "'a'"},
    {"model.safetensors.index.json",
     "{\"weight_map\": {\"a\": \"model-00002-of-00002.safetensors\"}}", "index.json",
     "tensor 'a' is not in"},
};

START_TEST(a_bad_directory_is_refused)
{
    lrt_checkpoint_close(put_shards());
    const char *spoilt = bad_directories[_i].spoilt, *text = bad_directories[_i].text;
    if (text)
        put_text(spoilt, text);
    else
        ck_assert_int_eq(unlink(path_of(spoilt)), 0);
    expect_refused(folder, bad_directories[_i].file, bad_directories[_i].what);
}
END_TEST

START_TEST(a_tensor_in_two_shards_is_refused)
{
    lrt_checkpoint_close(put_shards());
    const float x = 0;
    const LrtTensor tensor = {"lm_head.weight", LRT_F32, 0, {0}, .data = BYTES(x)};
    LrtError error = {0};
    for (int i = 0; i < 2; i++)
        ck_assert(lrt_safetensors_write(path_of(i ? "a" : "b"), &tensor, 1, NULL, &error));
    put_text("model.safetensors.index.json",
             "{\"weight_map\": {\"lm_head.weight\": \"a\", \"x\": \"b\"}}");
    expect_refused(folder, folder, "'x' is not in 'b'");
    put_text("model.safetensors.index.json",
             "{\"weight_map\": {\"lm_head.weight\": \"a\", \"lm_head.weight\": \"b\"}}");
    expect_refused(folder, "index.json", "duplicate");
    expect_refused(path_of("none"), "none", "no such file");
    expect_refused(put_text("weights.bin", ""), "weights.bin", "not a checkpoint");
}
END_TEST

/* --- GGUF --- */

static struct {
    uint8_t *at, header[1 << 16], data[1 << 20];
    uint64_t tensors, values, size; /* of data */
} gguf;

static void add_integer(uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *gguf.at++ = (uint8_t)(value >> 8 * i);
}

static void add_string(const char *text)
{
    add_integer(strlen(text), 8);
    memcpy(gguf.at, text, strlen(text));
    gguf.at += strlen(text);
}

static void add_key(const char *key, GgufType type)
{
    gguf.values++;
    add_string(key);
    add_integer(type, 4);
}

static void add_u32(const char *key, uint32_t value)
{
    add_key(key, GGUF_U32);
    add_integer(value, 4);
}

static void add_f32(const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    add_key(key, GGUF_F32);
    add_integer(bits, 4);
}

static void add_text(const char *key, const char *text)
{
    add_key(key, GGUF_STRING);
    add_string(text);
}

static void begin_gguf(const char *architecture)
{
    memset(&gguf, 0, sizeof gguf);
    gguf.at = gguf.header + 24;
    add_text("general.architecture", architecture);
}

static void add_tensor(const char *name, int type, int rank, const int64_t *shape,
                       const void *data, size_t bytes)
{
    gguf.tensors++;
    add_string(name);
    add_integer((uint64_t)rank, 4);
    for (int i = rank - 1; i >= 0; i--)
        add_integer((uint64_t)shape[i], 8);
    add_integer((uint64_t)type, 4);
    add_integer(gguf.size, 8);
    memcpy(gguf.data + gguf.size, data, bytes);
    gguf.size += (bytes + 31) / 32 * 32;
}

static const char *end_gguf(const char *name)
{
    const size_t header = ((size_t)(gguf.at - gguf.header) + 31) / 32 * 32;
    uint8_t *file = calloc(1, header + gguf.size);
    gguf.at = gguf.header;
    add_integer(0x46554747, 4);
    add_integer(3, 4);
    add_integer(gguf.tensors, 8);
    add_integer(gguf.values, 8);
    memcpy(file, gguf.header, header);
    memcpy(file + header, gguf.data, gguf.size);
    const char *path = put_file(name, file, header + gguf.size);
    free(file);
    return path;
}

static const struct {
    const char *hf, *gguf; /* a # stands for the layer */
} tensor_names[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"model.layers.#.input_layernorm.weight", "blk.#.attn_norm.weight"},
    {"model.layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight"},
    {"model.layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight"},
    {"model.layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight"},
    {"model.layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight"},
    {"model.layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight"},
    {"model.layers.#.mlp.gate_proj.weight", "blk.#.ffn_gate.weight"},
    {"model.layers.#.mlp.up_proj.weight", "blk.#.ffn_up.weight"},
    {"model.layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight"},
    {"transformer.wte.weight", "token_embd.weight"},
    {"transformer.wpe.weight", "position_embd.weight"},
    {"transformer.ln_f.weight", "output_norm.weight"},
    {"transformer.ln_f.bias", "output_norm.bias"},
    {"transformer.h.#.ln_1.weight", "blk.#.attn_norm.weight"},
    {"transformer.h.#.ln_1.bias", "blk.#.attn_norm.bias"},
    {"transformer.h.#.attn.c_attn.weight", "blk.#.attn_qkv.weight"},
    {"transformer.h.#.attn.c_attn.bias", "blk.#.attn_qkv.bias"},
    {"transformer.h.#.attn.c_proj.weight", "blk.#.attn_output.weight"},
    {"transformer.h.#.attn.c_proj.bias", "blk.#.attn_output.bias"},
    {"transformer.h.#.ln_2.weight", "blk.#.ffn_norm.weight"},
    {"transformer.h.#.ln_2.bias", "blk.#.ffn_norm.bias"},
    {"transformer.h.#.mlp.c_fc.weight", "blk.#.ffn_up.weight"},
    {"transformer.h.#.mlp.c_fc.bias", "blk.#.ffn_up.bias"},
    {"transformer.h.#.mlp.c_proj.weight", "blk.#.ffn_down.weight"},
    {"transformer.h.#.mlp.c_proj.bias", "blk.#.ffn_down.bias"},
};

static void gguf_name(const char *hf, char name[64])
{
    char pattern[128] = "", layer = '0';
    for (size_t i = 0; hf[i]; i++) {
        pattern[i] = hf[i] >= '0' && hf[i] <= '9' && hf[i - 1] == '.' ? '#' : hf[i];
        layer = pattern[i] == '#' ? hf[i] : layer;
    }
    for (int i = 0; i < COUNT_OF(tensor_names); i++)
        if (!strcmp(tensor_names[i].hf, pattern)) {
            strcpy(name, tensor_names[i].gguf);
            if (strchr(name, '#'))
                *strchr(name, '#') = layer;
            return;
        }
    ck_abort_msg("no name for '%s'", hf);
}

/* As the converter writes a tensor: q and k of llama as [heads, half, 2] from [heads, 2, half],
 * the matrices of gpt2's layers transposed. */
static void convert(const LrtTensor *tensor, int heads, int kv_heads, bool permute)
{
    char name[64];
    gguf_name(tensor->name, name);
    const bool conv1d = strstr(tensor->name, ".c_") && tensor->rank == 2;
    const bool k = strstr(name, "attn_k.") != NULL, rotary = k || strstr(name, "attn_q.");
    const int64_t rows = tensor->shape[0], width = lrt_tensor_elements(tensor) / rows;
    const int64_t half = rows / (k ? kv_heads : heads) / 2;
    float *x = numbers_of(tensor), *y = malloc(sizeof *y * (size_t)(rows * width));
    for (int64_t r = 0; r < rows; r++) {
        const int64_t head = r / (2 * half), side = r / half % 2, i = r % half;
        const int64_t row = rotary && permute ? (head * half + i) * 2 + side : r;
        for (int64_t c = 0; c < width; c++)
            y[conv1d ? c * rows + r : row * width + c] = x[r * width + c];
    }
    const int64_t shape[2] = {conv1d ? width : rows, conv1d ? rows : width};
    add_tensor(name, 0, tensor->rank, shape, y, sizeof *y * (size_t)(rows * width));
    free(x);
    free(y);
}

static double config_number(const json_t *config, const char *key)
{
    return json_number_value(json_object_get(config, key));
}

static void add_llama(const char *architecture, const json_t *config)
{
    static const char *const keys[][2] = {
        {"hidden_size", "embedding_length"},
        {"intermediate_size", "feed_forward_length"},
        {"num_hidden_layers", "block_count"},
        {"num_attention_heads", "attention.head_count"},
        {"num_key_value_heads", "attention.head_count_kv"},
        {"head_dim", "rope.dimension_count"},
        {"max_position_embeddings", "context_length"},
    };
    char key[64];
    begin_gguf(architecture);
    for (int i = 0; i < COUNT_OF(keys); i++) {
        snprintf(key, sizeof key, "%s.%s", architecture, keys[i][1]);
        add_u32(key, (uint32_t)config_number(config, keys[i][0]));
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", architecture);
    add_f32(key, (float)config_number(config, "rms_norm_eps"));
    snprintf(key, sizeof key, "%s.rope.freq_base", architecture);
    add_f32(key,
            (float)config_number(json_object_get(config, "rope_parameters"), "rope_theta"));
}

static void add_gpt2(const json_t *config)
{
    begin_gguf("gpt2");
    add_u32("gpt2.embedding_length", (uint32_t)config_number(config, "n_embd"));
    add_u32("gpt2.feed_forward_length", 4 * (uint32_t)config_number(config, "n_embd"));
    add_u32("gpt2.block_count", (uint32_t)config_number(config, "n_layer"));
    add_u32("gpt2.attention.head_count", (uint32_t)config_number(config, "n_head"));
    add_u32("gpt2.context_length", (uint32_t)config_number(config, "n_positions"));
    add_f32("gpt2.attention.layer_norm_epsilon", 1e-5f);
}

/* Keys of the golden's config that a GGUF file does not have, or spells out. */
static bool differs(const char *key)
{
    static const char *const keys[] = {"rope_theta", "n_inner"};
    return !strcmp(key, keys[0]) || !strcmp(key, keys[1]);
}

static const struct {
    const char *golden, *architecture;
} converted[] = {
    {"llama", "llama"}, {"llama-odd", "llama"}, {"llama", "qwen2"}, {"gpt2", "gpt2"}};

START_TEST(gguf_files_are_shown_as_what_they_came_from)
{
    char directory[256];
    snprintf(directory, sizeof directory, GOLDENS "%s", converted[_i].golden);
    LrtCheckpoint *golden = open_good(directory);
    const char *architecture = converted[_i].architecture, *key;
    const json_t *config = lrt_checkpoint_config(golden), *value;
    const bool llama = !strcmp(architecture, "llama"), gpt2 = !strcmp(architecture, "gpt2");
    if (gpt2)
        add_gpt2(config);
    else
        add_llama(architecture, config);
    add_u32("tokenizer.ggml.bos_token_id", (uint32_t)config_number(config, "bos_token_id"));
    add_u32("tokenizer.ggml.eos_token_id", (uint32_t)config_number(config, "eos_token_id"));
    const int heads = gpt2 ? 1 : (int)config_number(config, "num_attention_heads");
    const int kv_heads = gpt2 ? 1 : (int)config_number(config, "num_key_value_heads");
    for (int i = lrt_checkpoint_count(golden) - 1; i >= 0; i--)
        convert(lrt_checkpoint_tensor(golden, i), heads, kv_heads, llama);
    if (gpt2) /* the converter stores the head again */
        add_tensor("output.weight", 0, 2, (int64_t[]){1, 1}, "\0\0\0", 4);
    const char *path = end_gguf("model.gguf");
    LrtCheckpoint *file = open_good(path);
    expect_same_tensors(file, golden);
    ck_assert_str_eq(lrt_checkpoint_tokenizer_path(file), path);
    json_object_foreach((json_t *)lrt_checkpoint_config(file), key, value)
    {
        char *shown = json_dumps(value, JSON_ENCODE_ANY);
        if (strcmp(architecture, "qwen2") ||
            !strchr("ma", key[0])) /* model_type, architectures */
            ck_assert_msg(differs(key) ||
                              json_equal((json_t *)value, json_object_get(config, key)),
                          "config has %s %s", key, shown);
        free(shown);
    }
    if (gpt2)
        ck_assert_int_eq((int)config_number(lrt_checkpoint_config(file), "n_inner"), 256);
    else
        ck_assert_double_eq(config_number(lrt_checkpoint_config(file), "rope_theta"),
                            _i == 1 ? 10000 : 100000);
    lrt_checkpoint_close(file);
    lrt_checkpoint_close(golden);
}
END_TEST

/* --- files that lie --- */

#define T(fields)           "{\"a\":{" fields "}}"
#define F32(shape, offsets) T("\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets)
#define TWO(a, b)                                                                              \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":" a                               \
    "},\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":" b "}}"

/* A header and 16 bytes. */
static const struct {
    const char *header, *what;
} bad_safetensors[] = {
    {"", "not a JSON object"},
    {"[]", "not a JSON object"},
    {" {}", "not a JSON object"},
    {"{\"a\":", "not a JSON object"},
    {"{\"\xff\":1}", "not a JSON object"},
    {"{} {}", "not a JSON object"},
    {"{}", "16 bytes follow"},
    {"{\"a\":1}", "no dtype"},
    {T("\"dtype\":\"F32\""), "no dtype or data_offsets"},
    {T("\"dtype\":\"F32\",\"data_offsets\":[0,16]"), "no shape"},
    {T("\"dtype\":\"F31\",\"shape\":[4],\"data_offsets\":[0,16]"), "type F31"},
    {T("\"dtype\":\"Q8_0\",\"shape\":[32],\"data_offsets\":[0,34]"), "type Q8_0"},
    {F32("[4]", "[0]"), "data_offsets"},
    {F32("[4]", "[0,16.0]"), "not whole numbers"},
    {F32("[4]", "[-16,0]"), "outside the file"},
    {F32("[4]", "[16,0]"), "outside the file"},
    {F32("[4]", "[16,32]"), "outside the file"},
    {F32("[4]", "[0,9223372036854775807]"), "outside the file"},
    {F32("[4]", "[0,99999999999999999999]"), "not a JSON object"},
    {F32("[3]", "[0,16]"), "size of its shape"},
    {F32("[]", "[0,16]"), "size of its shape"},
    {F32("[1,1,1,1,4]", "[0,16]"), "more than 4 dimensions"},
    {F32("[-4]", "[0,16]"), "makes no sense"},
    {F32("[4.0]", "[0,16]"), "makes no sense"},
    {F32("[4611686018427387905,4]", "[0,16]"), "makes no sense"},
    {F32("[4294967296,4294967296]", "[0,0]"), "makes no sense"},
    {F32("[0,4294967296,4294967296]", "[0,0]"), "makes no sense"},
    {TWO("[0,8]", "[0,8]"), "overlaps"},
    {TWO("[0,8]", "[4,12]"), "overlaps"},
    {TWO("[8,16]", "[8,16]"), "overlaps"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
     "\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
     "duplicate"},
};

START_TEST(a_bad_safetensors_file_is_refused)
{
    uint8_t file[512] = {0};
    const size_t length = strlen(bad_safetensors[_i].header);
    file[0] = (uint8_t)length;
    memcpy(file + 8, bad_safetensors[_i].header, length);
    put_file("bad.safetensors", file, 8 + length + 16);
    expect_refused(path_of("bad.safetensors"), "bad.safetensors", bad_safetensors[_i].what);
}
END_TEST

START_TEST(a_bad_header_length_is_refused)
{
    static const uint64_t lengths[] = {0,          225,        100000001,
                                       1ull << 63, UINT64_MAX, UINT64_MAX - 7};
    for (int i = 0; i < COUNT_OF(lengths); i++) {
        uint8_t file[232] = {0};
        memcpy(file + 8, MINIMAL_HEADER, 208);
        memcpy(file, &lengths[i], 8);
        put_file("bad.safetensors", file, sizeof file);
        expect_refused(path_of("bad.safetensors"), "bad.safetensors", "header");
    }
}
END_TEST

/* One F32 tensor, ne [4, 2]; general.alignment is 32. */
static const char minimal_gguf[] =
    "474755460300000001000000000000000200000000000000140000000000000067656e6572616c2e6172636869"
    "746563747572650800000005000000000000006c6c616d61110000000000000067656e6572616c2e616c69676e"
    "6d656e7404000000200000001100000000000000746f6b656e5f656d62642e7765696768740200000004000000"
    "00000000020000000000000000000000000000000000000000000000000000803f000000400000404000008040"
    "0000a0400000c0400000e040";

/* The minimal file with BYTES of VALUE at AT. */
static const struct {
    int at, bytes;
    uint64_t value;
    const char *what;
} bad_gguf[] = {
    {0, 4, 0x46474755, "not a GGUF file"},
    {4, 4, 1, "version 1"},
    {4, 4, 0x03000000, "version 50331648"},
    {8, 8, UINT64_MAX, "more entries"},
    {8, 8, 9, "more entries"},
    {8, 8, 2, "ends inside its header"},
    {16, 8, 1ull << 63, "more entries"},
    {16, 8, 3, "byte "},
    {24, 8, UINT64_MAX, "ends inside"},
    {24, 8, 161, "ends inside"},
    {52, 4, 13, "unknown type"},
    {52, 4, UINT32_MAX, "unknown type"},
    {52, 4, GGUF_ARRAY, "byte "},
    {56, 8, UINT64_MAX - 63, "ends inside"},
    {64, 4, 0x41414141, "architecture 'AAAAa'"},
    {94, 4, GGUF_STRING, "ends inside"},
    {98, 4, 0, "general.alignment"},
    {98, 4, 24, "general.alignment"},
    {98, 4, 1u << 31, "general.alignment"},
    {98, 4, 65536, "before its tensors"},
    {102, 8, 1ull << 62, "ends inside"},
    {110, 1, 'u', "token_embd.weight"},
    {127, 4, 5, "4 dimensions"},
    {127, 4, UINT32_MAX, "4 dimensions"},
    {127, 4, 1, "token_embd.weight"},
    {131, 8, 0, "shape"},
    {131, 8, 5, "outside the file"},
    {131, 8, 1ull << 63, "shape"},
    {131, 8, 1ull << 62, "shape"},
    {147, 4, 12, "type Q4_K"},
    {147, 4, 4, "an unknown number"},
    {147, 4, UINT32_MAX, "an unknown number"},
    {147, 4, 2, "whole blocks"},
    {147, 4, 27, "outside the file"},
    {151, 8, 1, "not aligned"},
    {151, 8, 32, "outside the file"},
    {151, 8, UINT64_MAX - 31, "outside the file"},
};

START_TEST(a_bad_gguf_file_is_refused)
{
    uint8_t file[192];
    ck_assert_uint_eq(from_hex(minimal_gguf, file), sizeof file);
    lrt_checkpoint_close(open_good(put_file("good.gguf", file, sizeof file)));
    for (int i = 0; i < bad_gguf[_i].bytes; i++)
        file[bad_gguf[_i].at + i] = (uint8_t)(bad_gguf[_i].value >> 8 * i);
    expect_refused(put_file("bad.gguf", file, sizeof file), "bad.gguf", bad_gguf[_i].what);
}
END_TEST

/* What a model of llama or qwen2 says of itself that its tensors do not fit. */
static const struct {
    const char *architecture, *key;
    uint32_t value;
    const char *text, *what;
} bad_models[] = {
    {"llama", "llama.attention.head_count", 0, NULL, "head_count"},
    {"llama", "llama.attention.head_count", 3, NULL, "3 heads"},
    {"llama", "llama.attention.head_count", INT32_MAX, NULL, "head_count"},
    {"llama", "llama.attention.head_count", UINT32_MAX, NULL, "head_count"},
    {"llama", "llama.attention.head_count_kv", 0, NULL, "head_count_kv"},
    {"llama", "llama.attention.head_count_kv", 1u << 30, NULL, "head_count_kv"},
    {"llama", "llama.rope.scaling.type", 0, "yarn", "scaling 'yarn'"},
    {"qwen2", "qwen2.rope.scaling.type", 0, "yarn", "scaling 'yarn'"},
    {"llama", "general.architecture", 0, "llama", "key occurs twice"},
    {"bloom", "x", 0, NULL, "architecture 'bloom'"},
    {"llama", "rope_freqs.weight", 1, "tensor", "rope_freqs"},
    {"llama", "blk.0.attn_k.weight", 1, "tensor", "k_proj.weight' occurs twice"},
    {"llama", "blk.1.attn_q.weight", 0, "tensor", "'blk.1.attn_q.weight'"},
};

START_TEST(a_model_that_contradicts_itself_is_refused)
{
    static const float zeros[16];
    static const int64_t shape[2] = {4, 4};
    const char *key = bad_models[_i].key, *text = bad_models[_i].text;
    const bool tensor = text && !strcmp(text, "tensor");
    begin_gguf(bad_models[_i].architecture);
    if (text && !tensor)
        add_text(key, text);
    else if (!tensor)
        add_u32(key, bad_models[_i].value);
    add_tensor("token_embd.weight", 0, 2, shape, zeros, 64);
    add_tensor("blk.0.attn_q.weight", 0, 2, shape, zeros, 64);
    add_tensor("blk.0.attn_k.weight", 0, 2, shape, zeros, 64);
    for (uint32_t i = 0; tensor && i < (bad_models[_i].value ? bad_models[_i].value : 1); i++)
        add_tensor(key, 0, bad_models[_i].value ? 2 : 0, shape, zeros, 64);
    expect_refused(end_gguf("bad.gguf"), "bad.gguf", bad_models[_i].what);
}
END_TEST

START_TEST(quantised_rows_of_heads_are_put_in_order)
{
    enum { HEADS = 2, ROWS = 32, WIDTH = 64 };
    uint8_t blocks[(ROWS * WIDTH / 32 + 1) * 34], *bias = blocks + ROWS * WIDTH / 32 * 34;
    float *weight, *vector;
    uint32_t state = 3;
    for (size_t i = 0; i < sizeof blocks; i++)
        blocks[i] = i % 34 == 1 ? 0x3c : (uint8_t)(next_random(&state) >> 24);
    begin_gguf("llama");
    add_u32("llama.attention.head_count", HEADS);
    add_tensor("token_embd.weight", 8, 2, (int64_t[]){ROWS, WIDTH}, blocks, 34 * 64);
    add_tensor("blk.0.attn_q.weight", 8, 2, (int64_t[]){ROWS, WIDTH}, blocks, 34 * 64);
    add_tensor("blk.0.attn_q.bias", 8, 1, (int64_t[]){ROWS}, bias, 34);
    LrtCheckpoint *file = open_good(end_gguf("q.gguf"));
    weight = numbers_of(lrt_checkpoint_find(file, "model.layers.0.self_attn.q_proj.weight"));
    vector = numbers_of(lrt_checkpoint_find(file, "model.layers.0.self_attn.q_proj.bias"));
    for (int h = 0, row = 0; h < HEADS; h++)
        for (int i = 0; i < 8; i++)
            for (int side = 0; side < 2; side++, row++) { /* rows as they lie */
                const int hf = h * 16 + side * 8 + i;
                expect_same_number(vector[hf], by_definition(&types[4], bias, row));
                for (int c = 0; c < WIDTH; c++)
                    expect_same_number(
                        weight[hf * WIDTH + c],
                        by_definition(&types[4], blocks + (row * 2 + c / 32) * 34, c % 32));
            }
    free(weight);
    free(vector);
    lrt_checkpoint_close(file);
}
END_TEST

static bool opens(bool safetensors, const uint8_t *data, size_t size)
{
    LrtError error = {0};
    LrtSafetensors *tensors =
        safetensors ? lrt_safetensors_open_memory(data, size, &error) : NULL;
    GgufFile *file = safetensors ? NULL : gguf_open_memory(data, size, &error);
    const bool opened = tensors || file;
    ck_assert(opened == (error.status == LRT_OK));
    ck_assert_msg(opened || strstr(error.text, "memory"), "'%s' names no file", error.text);
    lrt_safetensors_close(tensors);
    gguf_close(file);
    return opened;
}

START_TEST(no_byte_is_trusted)
{
    uint8_t good[232] = {0xd0}, *bad = malloc(232);
    if (_i)
        memcpy(good + 8, MINIMAL_HEADER, 208);
    const size_t size = _i ? 232 : from_hex(minimal_gguf, good);
    ck_assert(opens(_i, good, size));
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1); /* what reads beyond it is found by a sanitizer */
        memcpy(part, good, cut);
        ck_assert_msg(!opens(_i, part, cut), "%zu bytes are enough", cut);
        free(part);
    }
    for (size_t at = 0; at < size; at++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(bad, good, size);
            bad[at] ^= (uint8_t)(1 << bit);
            opens(_i, bad, size);
        }
    free(bad);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tc = tcase_create("files");
    tcase_add_checked_fixture(tc, make_folder, remove_folder);
    tcase_add_loop_test(tc, blocks_are_what_ggml_makes, 0, COUNT_OF(types));
    tcase_add_loop_test(tc, blocks_follow_their_definition, 0, COUNT_OF(types));
    tcase_add_test(tc, halves_are_exact);
    tcase_add_test(tc, an_adapter_is_written_as_the_library_does);
    tcase_add_test(tc, what_is_written_is_read);
    tcase_add_test(tc, shards_are_one_checkpoint);
    tcase_add_loop_test(tc, a_bad_directory_is_refused, 0, COUNT_OF(bad_directories));
    tcase_add_test(tc, a_tensor_in_two_shards_is_refused);
    tcase_add_loop_test(tc, gguf_files_are_shown_as_what_they_came_from, 0,
                        COUNT_OF(converted));
    tcase_add_test(tc, quantised_rows_of_heads_are_put_in_order);
    tcase_add_loop_test(tc, a_bad_safetensors_file_is_refused, 0, COUNT_OF(bad_safetensors));
    tcase_add_test(tc, a_bad_header_length_is_refused);
    tcase_add_loop_test(tc, a_bad_gguf_file_is_refused, 0, COUNT_OF(bad_gguf));
    tcase_add_loop_test(tc, a_model_that_contradicts_itself_is_refused, 0,
                        COUNT_OF(bad_models));
    tcase_add_loop_test(tc, no_byte_is_trusted, 0, 2);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
