
int main(void)
{
    Suite *suite = suite_create("passes");
    TCase *tc = tcase_create("passes");
    tcase_add_checked_fixture(tc, open_arena, close_arena);
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, gradients_equal_differences, 0, GRAD_CASES);
    tcase_add_test(tc, every_op_with_a_gradient_has_a_case);
    tcase_add_test(tc, an_op_without_a_gradient_is_an_error);
    tcase_add_loop_test(tc, a_model_without_a_loss_or_anything_trained_is_an_error, 0, 2);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
