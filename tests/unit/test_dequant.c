/* test_dequant.c - numbers of every stored type.  Known answers: blocks made by ggml's own quantisers, and the errors they leave. */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "tests/unit/block_types.h"
#include "tests/unit/checkpoint_files.h"
#include "tests/unit/run_suite.h"

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
    const struct Quantised *type = &block_types[_i];
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

START_TEST(blocks_follow_their_definition)
{
    enum { BLOCKS = 500 };
    const struct Quantised *type = &block_types[_i];
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

int main(void)
{
    Suite *suite = suite_create("dequant");
    TCase *tc = tcase_create("numbers");
    tcase_add_loop_test(tc, blocks_are_what_ggml_makes, 0, COUNT_OF(block_types));
    tcase_add_loop_test(tc, blocks_follow_their_definition, 0, COUNT_OF(block_types));
    tcase_add_test(tc, halves_are_exact);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
