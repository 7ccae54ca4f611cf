/* test_safetensors.c - safetensors files: written as the library does, read, and those that lie about themselves. */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "tests/unit/checkpoint_files.h"
#include "tests/unit/run_suite.h"

#define MINIMAL_HEADER                                                                         \
    "{\"__metadata__\":{\"format\":\"pt\"},"                                                   \
    "\"base_model.model.x.lora_A.weight\":"                                                    \
    "{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"                              \
    "\"base_model.model.x.lora_B.weight\":"                                                    \
    "{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[8,16]}}   "

START_TEST(an_adapter_is_written_as_the_library_does)
{
    static const float a[2] = {.5f, -.25f}, b[2] = {0};
    const LrtTensor tensors[] = {
        {"base_model.model.x.lora_B.weight", LRT_F32, 2, {2, 1}, .data = BYTES(b)},
        {"base_model.model.x.lora_A.weight", LRT_F32, 2, {1, 2}, .data = BYTES(a)}};
    LrtError error = {0};
    ck_assert(lrt_safetensors_write(temp_path("a.safetensors"), tensors, 2, NULL, &error));
    uint8_t want[232] = {0xd0}, got[240];
    memcpy(want + 8, MINIMAL_HEADER, 208);
    from_hex("0000003f000080be", want + 216);
    FILE *file = fopen(temp_path("a.safetensors"), "rb");
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
    const char *path = temp_path("w.safetensors");
    LrtError error = {0};
    for (int pass = 0; pass < 2; pass++) /* the second writes over the first */
        ck_assert(lrt_safetensors_write(path, tensors, 5, metadata, &error));
    ck_assert_int_eq(entries(temp_folder), 1);
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
    ck_assert(!lrt_safetensors_write(temp_path("no/w.safetensors"), tensors, 5, NULL, &error));
    ck_assert(error.status == LRT_FAILED && strstr(error.text, "no/w.safetensors") != NULL);
    ck_assert_int_eq(entries(temp_folder), 1);
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
    temp_write("bad.safetensors", file, 8 + length + 16);
    expect_refused(temp_path("bad.safetensors"), "bad.safetensors", bad_safetensors[_i].what);
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
        temp_write("bad.safetensors", file, sizeof file);
        expect_refused(temp_path("bad.safetensors"), "bad.safetensors", "header");
    }
}
END_TEST

static bool opens(const uint8_t *data, size_t size)
{
    LrtError error = {0};
    LrtSafetensors *file = lrt_safetensors_open_memory(data, size, &error);
    const bool opened = opened_as_said(file != NULL, &error);
    lrt_safetensors_close(file);
    return opened;
}

START_TEST(no_byte_is_trusted)
{
    uint8_t good[232] = {0xd0};
    memcpy(good + 8, MINIMAL_HEADER, 208);
    expect_no_byte_trusted(good, sizeof good, opens);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tc = tcase_create("files");
    tcase_add_checked_fixture(tc, temp_open, temp_close);
    tcase_add_test(tc, an_adapter_is_written_as_the_library_does);
    tcase_add_test(tc, what_is_written_is_read);
    tcase_add_loop_test(tc, a_bad_safetensors_file_is_refused, 0, COUNT_OF(bad_safetensors));
    tcase_add_test(tc, a_bad_header_length_is_refused);
    tcase_add_test(tc, no_byte_is_trusted);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
