#!/usr/bin/env python3
"""The operators of LDL in compiled programs: small descriptions against the same formulas in numpy, and every gradient against finite
differences of the program's own loss (--check).

    operators.py LORACC

A case is what stands between the words' rows x [T, d] and a product with the head, y [T, m].  u, w: vectors [d]; P: [d, d]."""
import json
import pathlib
import sys
import tempfile

import numpy as np
from common import Checks, error, save

VOCABULARY, D, M, HEADS, B, T = 11, 20, 20, 4, 2, 9
LIMIT = 2e-5

MODEL = """model operators {{
    dim vocab = 11 from "vocab_size";
    dim d = 20;
    dim m = {m};
    dim heads = 4;
    dim dh = 5;
    const f[i in 0:2] = 100 ^ (-i / 2);
    input tokens: i32[T];
    input labels: i32[T];
    weight E: [vocab, d] as embed = "E";
    weight u: [d] as norm = "u";
    weight w: [d] as norm = "w";
    weight h: [dh] as norm = "h";
    weight P: [d, d] as q = "P";
    weight W: [m, vocab] as head = "W";
    let x = E[tokens];
    {body}
    output logits = y @ W;
    loss next_token(logits, labels);
}}
"""


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def shifted(x, n):
    out = np.zeros_like(x)
    if n >= 0:
        out[:, n:] = x[:, :x.shape[1] - n]
    else:
        out[:, :n] = x[:, -n:]
    return out


def norm(x, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def rms(x, eps=1e-5):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def heads(x, n=HEADS):
    return x.reshape(*x.shape[:2], n, -1).swapaxes(1, 2)


def merged(x):
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def turned(x, frequencies=(1, 0.1)):
    """Rotary positions on the first pairs of each head, halves apart."""
    n = len(frequencies)
    angle = np.arange(x.shape[2])[:, None] * np.array(frequencies)
    a, b = x[..., :n], x[..., n:2 * n]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle), x[..., 2 * n:]], -1)


def attention(q, k, v, scale=1.0, mask=None):
    scores = scale * (q @ k.swapaxes(-1, -2))
    return merged(softmax(np.where(np.tril(np.ones((T, T), bool)) if mask is None else mask, scores, -1e30)) @ v)


ROW, COL = np.arange(T)[:, None], np.arange(T)
CAUSAL = "softmax(q @ k', where = col <= row) @ v"

# name, the lines that make y, the same in numpy from x and the weights; columns of y where they are not d
CASES = [
    ("element-wise", "let y = exp(x * u) - abs(x) + sqrt(x * x + 1) / rsqrt(w * w + 2) - (-x);",
     lambda x, u, w, **_: np.exp(x * u) - abs(x) + np.sqrt(x * x + 1) * np.sqrt(w * w + 2) + x),
    ("functions", "let y = tanh(x) + erf(x * u) + sigmoid(w * x) + log(x * x + 1) + gelu_tanh(x) + quick_gelu(x) + silu(x) + relu(x);",
     lambda x, u, w, **_: np.tanh(x) + ERF(x * u) + sigmoid(w * x) + np.log(x * x + 1) +
     x * sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)) + x * sigmoid(1.702 * x) + x * sigmoid(x) + np.maximum(x, 0)),
    ("gelu", "let y = gelu(x + u);", lambda x, u, **_: (x + u) * (1 + ERF((x + u) / np.sqrt(2))) / 2),
    ("maximum, minimum, clamp", "let y = maximum(x, u) + minimum(x, w) + clamp(x, -0.5, 0.25) + clamp(x, u, u + 1);",
     lambda x, u, w, **_: np.maximum(x, u) + np.minimum(x, w) + np.clip(x, -0.5, 0.25) + np.clip(x, u, u + 1)),
    ("predicates", "let y = where(x > u & !(x > 1) | x < -1, x * w, where(x <= 0, u, 3 * x));",
     lambda x, u, w, **_: np.where((x > u) & ~(x > 1) | (x < -1), x * w, np.where(x <= 0, u, 3 * x))),
    ("floor and ceil", "let y = x + stop_gradient(floor(x * 3) + ceil(u));", lambda x, u, **_: x + np.floor(x * 3) + np.ceil(u)),
    ("integers", "let n = clamp(positions - 2, 0, 3) * 2 + tokens / 3; let y = x * to_f32(reshape(n, [T, 1]));",
     lambda x, ids, **_: x * (np.clip(COL - 2, 0, 3) * 2 + ids // 3)[..., None]),
    ("integers of reals", "let y = x * to_f32(to_i32(stop_gradient(w * 3)));", lambda x, w, **_: x * np.trunc(w * 3)),
    ("tables", "weight table: [6, d] as position = 'table'; let y = x + table[clamp(positions, 0, 5)];".replace("'", '"'),
     lambda x, table, **_: x + table[np.minimum(COL, 5)]),
    ("a computed table", "weight table: [6, d] as position = 'table'; let y = x + (tanh(table) @ P)[clamp(positions, 0, 5)];".replace("'", '"'),
     lambda x, table, P, **_: x + (np.tanh(table) @ P)[np.minimum(COL, 5)]),
    ("reductions", "let y = x * sum(x) + max(stop_gradient(x)) - mean(x * u);",
     lambda x, u, **_: x * x.sum(-1, keepdims=True) + x.max(-1, keepdims=True) - (x * u).mean(-1, keepdims=True)),
    ("norms", "let y = layernorm(x, 1e-5) * u + rmsnorm(x + w, 1e-5);", lambda x, u, w, **_: norm(x) * u + rms(x + w)),
    ("softmax of columns", "let y = softmax(x * u);", lambda x, u, **_: softmax(x * u)),
    ("shift", "let y = relu(x * u); y = y + shift(y, 1) * w - shift(y, -2);",
     lambda x, u, w, **_: (lambda y: y + shifted(y, 1) * w - shifted(y, -2))(np.maximum(x * u, 0))),
    ("a convolution", "let y = shift(x, 1) @ P + x + shift(x * w, -1) @ P;",
     lambda x, w, P, **_: shifted(x, 1) @ P + x + shifted(x * w, -1) @ P),
    ("cumsum", "let y = cumsum(x * u) / 4 + cumsum(tanh(x), inverse = true);",
     lambda x, u, **_: np.cumsum(x * u, 1) / 4 + np.cumsum(np.tanh(x)[:, ::-1], 1)[:, ::-1]),
    ("positions by counting", "let n = cumsum(to_f32(reshape(tokens, [T, 1]) != 3)); let y = x * n;",
     lambda x, ids, **_: x * np.cumsum(ids != 3, 1)[..., None]),
    ("slices", "let y = concat(x[:, 3:9] * 2, x[:, 0:3]) + x[:, 5:6] * x[:, 11:20];",
     lambda x, **_: np.concatenate([x[..., 3:9] * 2, x[..., :3]], -1) + x[..., 5:6] * x[..., 11:], 9),
    ("slices of products", "let a = x @ P; let y = concat(a[:, 0:7], a[:, 7:20]) + shift(a[:, 0:1], 1);",
     lambda x, P, **_: x @ P + shifted((x @ P)[..., :1], 1)),
    ("a column for all", "let y = x + reshape(x[:, 5], [T, 1]) * w;", lambda x, w, **_: x + x[..., 5:6] * w),
    ("concat", "let y = concat(concat(x * u, tanh(x)), x[:, 0:1] * 3);",
     lambda x, u, **_: np.concatenate([x * u, np.tanh(x), x[..., :1] * 3], -1), 41),
    ("reshape and permute", "let y = merge_heads(permute(reshape(x * u, [T, heads, dh]), [1, 0, 2]));", lambda x, u, **_: x * u),
    ("broadcast", "let y = x + broadcast(u, [T, 20]) * broadcast(x[:, 2:3], [T, 20]);", lambda x, u, **_: x + u * x[..., 2:3]),
    ("parts of heads", "let a = split_heads(x @ P, heads); let y = merge_heads(concat(a[:, :, 3:5], tanh(a[:, :, 0:3])));",
     lambda x, P, **_: (lambda a: merged(np.concatenate([a[..., 3:], np.tanh(a[..., :3])], -1)))(heads(x @ P))),
    ("norms of heads", "let a = split_heads(x @ P, heads); let y = merge_heads(rmsnorm(a, 1e-5) * (1 + h) + layernorm(a, 1e-5) * sum(a));",
     lambda x, P, h, **_: (lambda a: merged(rms(a) * (1 + h) + norm(a) * a.sum(-1, keepdims=True)))(heads(x @ P))),
    ("rotary positions", "let y = merge_heads(rope(split_heads(x, heads), positions, f));", lambda x, **_: merged(turned(heads(x)))),
    ("rotary positions on a part", "let a = split_heads(x @ P, heads); let y = merge_heads(concat(a[:, :, 0:1], rope(a[:, :, 1:5], positions, f)));",
     lambda x, P, **_: (lambda a: merged(np.concatenate([a[..., :1], turned(a[..., 1:])], -1)))(heads(x @ P))),
    ("attention", f"let q = split_heads(x @ P, heads); let k = split_heads(x * u, heads) at keys; let v = split_heads(x, heads) at values;"
     f" let y = merge_heads({CAUSAL});", lambda x, u, P, **_: attention(heads(x @ P), heads(x * u), heads(x))),
    ("attention of normed heads, gated", "let q = rope(rmsnorm(split_heads(x @ P, heads), 1e-5) * h, positions, f);"
     " let k = layernorm(split_heads(x * u, heads), 1e-5) at keys; let v = silu(split_heads(x, heads)) at values;"
     " let p = softmax(q @ k' / 3, where = col <= row & col > row - 4);"
     " let y = merge_heads(p @ v * sigmoid(split_heads(x * w, heads)));",
     lambda x, u, w, P, h, **_: merged(heads(attention(turned(rms(heads(x @ P)) * h), norm(heads(x * u)), (lambda v: v * sigmoid(v))(heads(x)), 1 / 3,
                                                       (COL <= ROW) & (COL > ROW - 4))) * sigmoid(heads(x * w)))),
    ("capped scores", "let q = split_heads(x @ P, heads); let k = split_heads(x * u, heads) at keys; let v = split_heads(x, heads) at values;"
     " let y = merge_heads(softmax(2 * tanh(q @ k' / 3 / 2), where = col <= row) @ v);",
     lambda x, u, P, **_: merged(softmax(np.where(COL <= ROW, 2 * np.tanh(heads(x @ P) @ heads(x * u).swapaxes(-1, -2) / 6), -1e30)) @ heads(x))),
    ("capped scores with relative terms", "weight places: [7, d] as relative = 'places'; let c = clamp(row - col + 3, 0, 6);"
     " let q = split_heads(x @ P, heads); let k = split_heads(x * u, heads) at keys; let v = split_heads(x, heads) at values;"
     " let r = split_heads(places @ P, heads); let y = merge_heads(softmax(tanh((q @ k' + take(q @ r', c)) / 2)) @ v);".replace("'places'", '"places"'),
     lambda x, u, P, places, **_: (lambda q, r: merged(softmax(np.tanh((q @ heads(x * u).swapaxes(-1, -2) + np.take_along_axis(
         q @ r.swapaxes(-1, -2), np.broadcast_to(np.clip(ROW - COL + 3, 0, 6), (B, HEADS, T, T)), -1)) / 2)) @ heads(x)))(
             heads(x @ P), heads((places @ P)[None]))),
    ("grouped heads", "let q = split_heads(x @ P, heads); let k = repeat_heads(split_heads(x[:, 0:10], 2) at keys, heads);"
     " let v = repeat_heads(split_heads(x[:, 10:20], 2) at values, heads); let y = merge_heads(softmax(q @ k', where = col <= row) @ v);",
     lambda x, P, **_: attention(heads(x @ P), heads(x[..., :10], 2).repeat(2, 1), heads(x[..., 10:], 2).repeat(2, 1))),
    ("take", "weight places: [7, d] as relative = 'places'; let c = clamp(row - col + 3, 0, 6); let q = split_heads(x @ P, heads);"
     " let k = split_heads(x * u, heads) at keys; let v = split_heads(x, heads) at values; let r = split_heads(places @ P, heads);"
     " let y = merge_heads(softmax(q @ k' + take(q @ r', c), where = col <= row) @ v);".replace("'places'", '"places"'),
     lambda x, u, P, places, **_: (lambda q, r: merged(softmax(np.where(COL <= ROW, q @ heads(x * u).swapaxes(-1, -2) + np.take_along_axis(
         q @ r.swapaxes(-1, -2), np.broadcast_to(np.clip(ROW - COL + 3, 0, 6), (B, HEADS, T, T)), -1), -1e30)) @ heads(x)))(
             heads(x @ P), heads((places @ P)[None]))),
    ("compile-time choice", "let y = x; repeat i in 0:3 { if i % 2 == 0 { y = y * u + i; } else { y = tanh(y); } }",
     lambda x, u, **_: np.tanh(x * u) * u + 2),
]


def ERF(x):
    """Abramowitz and Stegun's 7.1.26 is too coarse: the series, which converges for what occurs here."""
    x = np.clip(x.astype(np.float64), -5, 5)
    term, total = x.copy(), x.copy()
    for n in range(1, 120):
        term *= -x * x / n
        total += term / (2 * n + 1)
    return 2 / np.sqrt(np.pi) * total


def main():
    checks, loracc = Checks(), pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder, random = pathlib.Path(folder), np.random.default_rng(5)
        shapes = {"E": (VOCABULARY, D), "u": (D,), "w": (D,), "h": (5,), "P": (D, D), "table": (6, D), "places": (7, D)}
        weights = {name: (random.standard_normal(shape) * (0.3 if name == "P" else 0.8)).astype(np.float32) for name, shape in shapes.items()}
        ids = random.integers(0, VOCABULARY, (B, T)).astype(np.int32)
        (folder / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY, "model_type": "operators"}))
        save(folder / "in", {"input_ids": ids})
        save(folder / "batches", {"input_ids": ids[None], "labels": ids[None]})
        for name, body, formula, *columns in CASES:
            m = columns[0] if columns else D
            weights["W"] = (random.standard_normal((m, VOCABULARY)) * 0.5).astype(np.float32)
            save(folder / "model.safetensors", weights)
            (folder / "case.ldl").write_text(MODEL.format(m=m, body=body))
            inputs = {key: value.astype(np.float64) for key, value in weights.items()}
            want = formula(x=inputs["E"][ids], ids=ids, **inputs) @ inputs["W"]
            options = ("--weights", folder, "--batch", B, "--length", T + 3)
            if checks.run(loracc, folder / "case.ldl", *options, "-o", folder / "case") is not None:
                for tier in ("generic", json.loads(checks.run(folder / "case", "--info", "--json"))["tier"]):
                    (folder / "out").unlink(missing_ok=True)
                    checks.run(folder / "case", "--logits", folder / "in", folder / "out", "--tier", tier)
                    checks.within(error(load_logits(folder / "out"), want), LIMIT, f"{name}: {tier}")
            if checks.run(loracc, folder / "case.ldl", *options, "--method", "full", "-o", folder / "case-train") is not None:
                checks.that(checks.run(folder / "case-train", "--tensors", folder / "batches", "--check") is not None, f"{name}: gradients")
    checks.finish()


def load_logits(path):
    from common import load
    return load(path)["logits"] if path.exists() else np.zeros(0)


if __name__ == "__main__":
    main()
