/* ir_samples.h - one small graph in canonical text for each op: what test_ir.c reads and prints, and test_eval.c
 * evaluates against numbers written by hand. */
#pragma once

#define X "  %0 = input {name=\"x\"} : f32[T, 4]\n"
#define INDEX "  %1 = input {name=\"tokens\"} : i32[T]\n"
#define HEADS "{heads=2, head_dim=2, causal=1}"
#define RELATIVE "{index=3, heads=2, kv_heads=2, head_dim=2}"
#define TABLES "  %5 = input {name=\"x\"} : f32[T, 4]\n"
#define MAP1(op) {X "  %1 = " op " %0 : f32[T, 4]\n  output \"o\" %1\n"},
#define MAP2(op) {X "  %1 = " op " %0, %0 : f32[T, 4]\n  output \"o\" %1\n"},
#define COMPARE(op) {X "  %1 = " op " %0, %0 : bool[T, 4]\n  output \"o\" %1\n"},
#define MASK "  %0 = row : i32[T, 1]\n  %1 = col : i32[S]\n  %2 = le %1, %0 : bool[T, S]\n"

static const struct {
    const char *text;
} samples[] = {
    MAP1("neg") MAP1("exp") MAP1("log") MAP1("sqrt") MAP1("rsqrt") MAP1("tanh") MAP1("erf") MAP1("sigmoid")
    MAP1("abs") MAP1("layernorm") MAP1("rmsnorm") MAP1("gelu") MAP1("gelu_tanh") MAP1("quick_gelu")
    MAP1("silu") MAP1("relu") MAP1("stop_gradient") MAP1("floor") MAP1("ceil")
    MAP2("add") MAP2("sub") MAP2("mul") MAP2("div") MAP2("maximum") MAP2("minimum")
    COMPARE("lt") COMPARE("eq")
    {MASK "  %3 = not %2 : bool[T, S]\n  %4 = and %2, %3 : bool[T, S]\n  %5 = or %4, %3 : bool[T, S]\n"
          "  %6 = to_f32 %5 : f32[T, S]\n  output \"o\" %6\n"},
    {X "  %1 = const {value=2} : f32\n  %2 = lt %1, %0 : bool[T, 4]\n  %3 = where %2, %0, %1 : f32[T, 4]\n"
       "  output \"o\" %3\n"},
    {X "  %1 = dropout %0 {rate=0.10000000000000001, name=\"h.0\"} : f32[T, 4] @0\n"
       "  %2 = dropout_grad %1 {rate=0.10000000000000001, name=\"h.0\"} : f32[T, 4] @0 bwd\n  output \"o\" %2\n"},
    {X "  %1 = sum %0 : f32[T, 1]\n  %2 = sum %1 {axis=0} : f32[1, 1]\n  output \"o\" %2\n"},
    {X "  %1 = max %0 : f32[T, 1]\n  output \"o\" %1\n"},
    {X "  %1 = mean %0 : f32[T, 1]\n  output \"o\" %1\n"},
    {X "  %1 = sum_to %0 {dims=[4]} : f32[4]\n  %2 = broadcast %1 {dims=[T, 4]} : f32[T, 4]\n  output \"o\" %2\n"},
    {X "  %1 = reshape %0 {dims=[2, T, 2]} : f32[2, T, 2]\n  output \"o\" %1\n"},
    {X "  %1 = permute %0 {dims=[1, 0]} : f32[4, T]\n  output \"o\" %1\n"},
    {X "  %1 = slice %0 {start=1, stop=3} : f32[T, 2]\n  %2 = pad %1 {start=1, stop=4} : f32[T, 4]\n"
       "  output \"o\" %2\n"},
    {X "  %1 = split_heads %0 {heads=2} : f32[2, T, 2]\n  %2 = repeat_heads %1 {heads=4} : f32[4, T, 2]\n"
       "  %3 = merge_heads %2 : f32[T, 8]\n  output \"o\" %3\n"},
    {X "  %1 = at %0 {name=\"keys\"} : f32[S, 4]\n  output \"o\" %1\n"},
    {"  %0 = param \"w\" {tensor=\"w\", file=[0:8/8, 0:4/4]} : f32[8, 4]\n" INDEX
     "  %2 = gather %0, %1 : f32[T, 4]\n  %3 = scatter %2, %1 {dims=[8, 4]} : f32[8, 4]\n  output \"o\" %3\n"},
    {X "  %1 = select_rows %0 : f32[R, 4]\n  output \"o\" %1\n"},
    {X "  %1 = token_row %0 {index=-1} : f32[Q, 4]\n  %2 = token_row_grad %1 {index=-1} : f32[T, 4]\n  output \"o\" %2\n"},
    {X "  %1 = shift %0 {index=-1} : f32[T, 4]\n  %2 = head_slice %1 {start=1, stop=2, heads=2} : f32[T, 2]\n"
       "  %3 = head_pad %2 {start=1, stop=2, heads=2} : f32[T, 4]\n  output \"o\" %3\n"},
    {X "  %1 = clamp %0, %0, %0 : f32[T, 4]\n  %2 = cumsum %1 : f32[T, 4]\n  %3 = cumsum %2 {inverse=1} : f32[T, 4]\n"
       "  %4 = concat %3, %0 : f32[T, 8]\n  output \"o\" %4\n"},
    {X "  %1 = head_sum %0 {heads=2} : f32[T, 2]\n  %2 = head_spread %1 {stop=2} : f32[T, 4]\n  output \"o\" %2\n"},
    {X "  %1 = head_fold %0 {heads=2} : f32[T, 2]\n  %2 = sum_to %1 {dims=[2]} : f32[2]\n"
       "  %3 = head_tile %2 {heads=2} : f32[4]\n  output \"o\" %3\n"},
    {MASK "  %3 = to_f32 %2 : f32[T, S]\n  %4 = to_i32 %3 : i32[T, S]\n" TABLES
          "  %6 = take %5, %4 : f32[T, S]\n  output \"o\" %6\n"},
    {X "  %1 = param \"w\" : f32[8, 4]\n  %2 = matmul %0, %1 {tb=1} : f32[T, 8]\n"
       "  %3 = matmul %2, %0 {ta=1} : f32[8, 4]\n  output \"o\" %3\n"},
    {X "  %1 = positions : i32[T]\n  %2 = table {name=\"f\"} (0.5) : f32[1]\n"
       "  %3 = rope %0, %1, %2 {heads=2} : f32[T, 4]\n  %4 = rope %3, %1, %2 {heads=2, inverse=1, interleaved=1} : f32[T, 4]\n"
       "  output \"o\" %4\n"},
    {X "  %1 = slice %0 {stop=2} : f32[T, 2]\n"
       "  %2 = attention %0, %1, %1 " HEADS " : (f32[T, 4], f32[T, 2])\n"
       "  %3 = result %2 : f32[T, 4]\n  %4 = result %2 {index=1} : f32[T, 2]\n"
       "  %5 = attention_grad %0, %1, %1, %3, %4, %0 " HEADS " : (f32[T, 4], f32[T, 2], f32[T, 2])\n"
       "  %6 = result %5 {index=2} : f32[T, 2]\n  output \"o\" %6\n"},
    {X "  %1 = param \"kr\" : f32[3, 4]\n  %2 = param \"qr\" : f32[3, 4]\n"
       "  %3 = table {name=\"distance\"} (0, 1, 2) : f32[3]\n"
       "  %4 = relative_attention %0, %0, %0, %1, %2, %3 " RELATIVE " : (f32[T, 4], f32[T, 2])\n"
       "  %5 = result %4 : f32[T, 4]\n  %6 = result %4 {index=1} : f32[T, 2]\n"
       "  %7 = relative_attention_grad %0, %0, %0, %1, %2, %3, %5, %6, %0 " RELATIVE
       " : (f32[T, 4], f32[T, 4], f32[T, 4], f32[3, 4], f32[3, 4])\n"
       "  %8 = result %7 {index=4} : f32[3, 4]\n  output \"o\" %8\n"},
    {X INDEX "  %2 = param \"w\" : f32[4, 8]\n  %3 = param \"b\" : f32[8]\n"
             "  %4 = linear_cross_entropy %0, %2, %1, %3 : (f32[T, 1], f32[T, 4])\n"
             "  %5 = result %4 : f32[T, 1]\n  output \"o\" %5\n"},
    {X INDEX "  %2 = param \"w\" : f32[8, 4]\n"
             "  %3 = linear_cross_entropy %0, %2, %1 {tb=1} : (f32[T, 1], f32[T, 4])\n"
             "  %4 = result %3 : f32[T, 1]\n  output \"o\" %4\n"},
    {X INDEX "  %2 = cross_entropy %0, %1 : f32[T, 1]\n  %3 = cross_entropy_grad %0, %1, %2 : f32[T, 4]\n"
             "  output \"o\" %3\n"},
    {MASK "  %3 = input {name=\"s\"} : f32[2, T, S]\n  %4 = softmax %3, %2 : f32[2, T, S]\n  output \"o\" %4\n"},
};
enum { SAMPLE_COUNT = sizeof samples / sizeof *samples };

#undef X
#undef INDEX
#undef HEADS
#undef RELATIVE
#undef TABLES
#undef MAP1
#undef MAP2
#undef COMPARE
#undef MASK
