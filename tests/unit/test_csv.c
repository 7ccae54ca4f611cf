/* test_csv.c - rows of separated text: RFC 4180 by its rules, and where it is silent as
 * Python's csv module reads (strict) files that are opened with newline="". */
#define _GNU_SOURCE
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/csv.h"
#include "tests/unit/run_suite.h"

/* "a|b;c" is a row of a and b and a row of c, with the lines where they begin: "1:a|b;2:c". */
static void show(const char *text, size_t size, bool tabs, char *out, LrtError *error)
{
    LrtCsv csv;
    lrt_csv_open(&csv, "file", text, size, tabs);
    for (int row = 0; lrt_csv_next(&csv, error); row++) {
        out += sprintf(out, "%s%lld:", row ? ";" : "", (long long)csv.line);
        for (size_t i = 0; i < csv.count; i++) {
            size_t length;
            const char *field = lrt_csv_field(&csv, i, &length);
            out += sprintf(out, "%s", i ? "|" : "");
            for (size_t k = 0; k < length; k++)
                out += (unsigned char)field[k] < ' ' ? sprintf(out, "\\%d", field[k])
                                                     : sprintf(out, "%c", field[k]);
        }
    }
    *out = '\0';
    lrt_csv_close(&csv);
}

static const struct Good {
    const char *text, *rows;
    bool tabs;
} good[] = {
    /* 2.1: records on lines of their own, ended by CR LF */
    {"aaa,bbb,ccc\r\nzzz,yyy,xxx\r\n", "1:aaa|bbb|ccc;2:zzz|yyy|xxx", false},
    /* 2.2: the last one may have no line end */
    {"aaa,bbb,ccc\r\nzzz,yyy,xxx", "1:aaa|bbb|ccc;2:zzz|yyy|xxx", false},
    /* 2.4: spaces are part of a field; the last field is followed by no comma */
    {" a , b ,c \n", "1: a | b |c ", false},
    {"a,\n", "1:a|", false},
    {",", "1:|", false},
    {",,\r\n,", "1:||;2:|", false},
    /* 2.5: fields may be quoted */
    {"\"aaa\",\"bbb\",\"ccc\"\r\nzzz,yyy,xxx", "1:aaa|bbb|ccc;2:zzz|yyy|xxx", false},
    {"a,\"\",b", "1:a||b", false},
    {"\"\"", "1:", false},
    {"\"\"\n\"\"\n", "1:;2:", false},
    /* 2.6: line ends, quotes and commas are in quotes; lines count on */
    {"\"aaa\",\"b\r\nbb\",\"ccc\"\r\nzzz,yyy,xxx", "1:aaa|b\\13\\10bb|ccc;3:zzz|yyy|xxx",
     false},
    {"\"a\n\n\nb\"\nc", "1:a\\10\\10\\10b;5:c", false},
    {"\"a\rb\"\rc", "1:a\\13b;3:c", false},
    {"\"a,b\",c", "1:a,b|c", false},
    /* 2.7: a quote in quotes is doubled */
    {"\"aaa\",\"b\"\"bb\",\"ccc\"", "1:aaa|b\"bb|ccc", false},
    {"\"\"\"\",\"\"\"a\"\"\",\"\"\"\"\"\"", "1:\"|\"a\"|\"\"", false},
    /* as Python: other line ends, empty lines, quotes inside plain fields, any byte */
    {"a\nb\rc\r\nd", "1:a;2:b;3:c;4:d", false},
    {"\n\r\n\ra\n\n\nb\n\n", "4:a;7:b", false},
    {"a\"b,c\"\"d,e\"\n", "1:a\"b|c\"\"d|e\"", false},
    {" \"a\",b", "1: \"a\"|b", false},
    {" \n", "1: ", false},
    {"'a,b',c", "1:'a|b'|c", false},
    {"a\tb\n", "1:a\\9b", false},
    {"\xff\x01,\"\xfe\"", "1:\xff\\1|\xfe", false},
    {"", "", false},
    {"\n", "", false},
    {"\r\n\r\n", "", false},
    /* tabs: nothing but tabs and line ends has a meaning */
    {"a\tb\nc\td\n", "1:a|b;2:c|d", true},
    {"\"a\tb\"\n", "1:\"a|b\"", true},
    {"\"a\n\"\n", "1:\"a;2:\"", true},
    {"a,b\t\"\"\r\n\t\r\n\n", "1:a,b|\"\";2:|", true},
    {"a\\tb\t", "1:a\\tb|", true},
};
enum { GOOD = sizeof good / sizeof *good };

START_TEST(a_text_is_read_as_rows)
{
    char found[512];
    LrtError error = {LRT_OK, ""};
    show(good[_i].text, strlen(good[_i].text), good[_i].tabs, found, &error);
    ck_assert_msg(error.status == LRT_OK, "%s", error.text);
    ck_assert_str_eq(found, good[_i].rows);
}
END_TEST

START_TEST(a_nul_byte_is_part_of_a_field)
{
    static const char text[] = "a\0b,\"\0\"\n";
    char found[64];
    LrtError error = {LRT_OK, ""};
    show(text, sizeof text - 1, false, found, &error);
    ck_assert_str_eq(found, "1:a\\0b|\\0");
}
END_TEST

static const struct Bad {
    const char *text, *rows, *message;
} bad[] = {
    {"\"a", "", "file:1: a quoted field begins here and does not end"},
    {"a\n\"b\n\nc\n", "1:a", "file:2: a quoted field begins here and does not end"},
    {"\"", "", "file:1: a quoted field"},
    {"\"a\"\"", "", "file:1: a quoted field"},
    {"\"a\"b", "", "file:1: text behind the closing quote"},
    {"\"a\" ,b", "", "file:1: text behind the closing quote"},
    {"a,b\n\"c\nd\"\"\n\"e", "1:a|b", "file:4: text behind the closing quote"},
};
enum { BAD = sizeof bad / sizeof *bad };

START_TEST(a_bad_quote_is_refused_with_its_line)
{
    char found[512];
    LrtError error = {LRT_OK, ""};
    show(bad[_i].text, strlen(bad[_i].text), false, found, &error);
    ck_assert_int_eq(error.status, LRT_INVALID);
    ck_assert_msg(!strncmp(error.text, bad[_i].message, strlen(bad[_i].message)), "%s",
                  error.text);
    ck_assert_ptr_nonnull(strstr(error.text, "a quote inside a field is written twice"));
    ck_assert_str_eq(found, bad[_i].rows);
    error = (LrtError){LRT_OK, ""}; /* with tabs quotes are text */
    show(bad[_i].text, strlen(bad[_i].text), true, found, &error);
    ck_assert_int_eq(error.status, LRT_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("csv");
    TCase *tc = tcase_create("csv");
    tcase_add_loop_test(tc, a_text_is_read_as_rows, 0, GOOD);
    tcase_add_test(tc, a_nul_byte_is_part_of_a_field);
    tcase_add_loop_test(tc, a_bad_quote_is_refused_with_its_line, 0, BAD);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
