#!/usr/bin/env python3
"""The operators of LDL in compiled programs: small descriptions against the same formulas in numpy, and every gradient against finite
differences of the program's own loss (--check).

    operators.py LORACC

A case is what stands between the words' rows x [T, d] and a product with the head, y [T, m].  u, w: vectors [d]; h:
one of a head's size; P: [d, d]; table, places: some rows [d]."""
import json
import pathlib
import sys
import tempfile

import numpy as np
from common import Checks, error, load, save

VOCABULARY, HEADS, B = 11, 4, 2
SIZES = 5, 16  # of a head: whole vectors and less
T, LONG = 9, 150  # tokens; attention works on 64 together
LIMIT = 2e-5

MODEL = """model operators {{
    dim vocab = 11 from "vocab_size";
    dim d = {d};
    dim m = {m};
    dim heads = 4;
    dim dh = d / heads;
    const f[i in 0:2] = 100 ^ (-i / 2);
    const many[i in 0:10] = 0.9 ^ i;
    const slope[i in 0:heads] = 2 ^ (-i - 1);
    const fall[j in 0:d] = 1 / (j + 1);
    const part[j in 0:dh] = sqrt(j + 1);
    const waves[p in 0:160, j in 0:d] = sin(p / 10 ^ (j / d));
    input tokens: i32[T];
    input labels: i32[T];
    weight E: [vocab, d] as embed = "E";
    weight u: [d] as norm = "u";
    weight w: [d] as norm = "w";
    weight h: [dh] as norm = "h";
    weight P: [d, d] as q = "P";
    weight table: [6, d] as position = "table";
    weight places: [7, d] as relative = "places";
    weight W: [m, vocab] as head = "W";
    let x = E[tokens];
    {body}
    output logits = y @ W;
    loss next_token(logits, labels);
}}
"""


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def erf(x):
    """By its Maclaurin series, which converges for what occurs here."""
    x = np.clip(x.astype(np.float64), -5, 5)
    term, total = x.copy(), x.copy()
    for n in range(1, 120):
        term *= -x * x / n
        total += term / (2 * n + 1)
    return 2 / np.sqrt(np.pi) * total


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


def turned_neighbours(x, frequencies):
    """Rotary positions on neighbouring elements, which are complex numbers."""
    n = 2 * len(frequencies)
    z = (x[..., :n:2] + 1j * x[..., 1:n:2]) * np.exp(1j * np.arange(x.shape[2])[:, None] * np.array(frequencies))
    return np.concatenate([np.stack([z.real, z.imag], -1).reshape(*z.shape[:-1], n), x[..., n:]], -1)


def attention(q, k, v, scale=1.0, mask=None, bias=0.0):
    """A query that sees nothing gets nothing."""
    scores, mask = scale * (q @ k.swapaxes(-1, -2)) + bias, np.tril(np.ones((T, T), bool)) if mask is None else mask
    return merged(softmax(np.where(mask, scores, -1e30)) * mask @ v)


def set_length(length):
    """Of the sequences from here on."""
    global T, ROW, COL
    T, ROW, COL = length, np.arange(length)[:, None], np.arange(length)


def waves(d):
    """As the model has them."""
    return np.sin(np.arange(160)[:, None] / 10 ** (np.arange(d) / d))


def bands(q, k, kr, qr):
    """Terms of relative positions of both sides, in buckets of one distance near by and of four farther off."""
    d = ROW - COL
    c = np.maximum(np.minimum(d, 40 + np.trunc(d / 4)), np.trunc(d / 4) - 40).astype(int) + 80
    of_queries, of_keys = (np.broadcast_to(places, (B, HEADS, T, T)) for places in (c, c.T))
    return np.take_along_axis(q @ kr.swapaxes(-1, -2), of_queries, -1) + np.take_along_axis(k @ qr.swapaxes(-1, -2), of_keys, -1).swapaxes(-1, -2)


SLOPE = 0.5 ** (1 + np.arange(HEADS))[:, None, None]
QKV = "let q = split_heads(x @ P, heads); let k = split_heads(x * u, heads) at keys; let v = split_heads(x, heads) at values;"
BANDS = ("let far = (row - col) / 4; let c = clamp(maximum(minimum(row - col, 40 + far), far - 40) + 80, 0, 159);"
         " let y = merge_heads(softmax((q @ k' + take(q @ kr', c) + take(k @ qr', c')') / 3) @ v);")
CAUSAL = "softmax(q @ k', where = col <= row) @ v"

# name, the lines that make y, the same in numpy from x and the weights; how many columns y has where they are not d
CASES = [
    ("element-wise", "let y = exp(x * u) - abs(x) + sqrt(x * x + 1) / rsqrt(w * w + 2) - (-x);",
     lambda x, u, w, **_: np.exp(x * u) - abs(x) + np.sqrt(x * x + 1) * np.sqrt(w * w + 2) + x),
    ("functions", "let y = tanh(x) + erf(x * u) + sigmoid(w * x) + log(x * x + 1) + gelu_tanh(x) + quick_gelu(x) + silu(x) + relu(x);",
     lambda x, u, w, **_: np.tanh(x) + erf(x * u) + sigmoid(w * x) + np.log(x * x + 1) +
     x * sigmoid(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)) + x * sigmoid(1.702 * x) + x * sigmoid(x) + np.maximum(x, 0)),
    ("gelu", "let y = gelu(x + u);", lambda x, u, **_: (x + u) * (1 + erf((x + u) / np.sqrt(2))) / 2),
    ("maximum, minimum, clamp", "let y = maximum(x, u) + minimum(x, w) + clamp(x, -0.5, 0.25) + clamp(x, u, u + 1);",
     lambda x, u, w, **_: np.maximum(x, u) + np.minimum(x, w) + np.clip(x, -0.5, 0.25) + np.clip(x, u, u + 1)),
    ("predicates", "let y = where(x > u & !(x > 1) | x < -1, x * w, where(x <= 0, u, 3 * x));",
     lambda x, u, w, **_: np.where((x > u) & ~(x > 1) | (x < -1), x * w, np.where(x <= 0, u, 3 * x))),
    ("floor and ceil", "let t = to_f32(reshape(positions, [T, 1])) * 0.3; let y = x * floor(t) + ceil(t) * u;",
     lambda x, u, **_: x * np.floor(ROW * 0.3) + np.ceil(ROW * 0.3) * u),
    ("integers", "let n = clamp(positions - 2, 0, 3) * 2 + tokens / 3; let y = x * to_f32(reshape(n, [T, 1]));",
     lambda x, ids, **_: x * (np.clip(COL - 2, 0, 3) * 2 + ids // 3)[..., None]),
    ("integers by integers", "let n = (tokens - 5) / (positions - 2); let y = x * to_f32(reshape(n, [T, 1]));",
     lambda x, ids, **_: x * np.trunc(np.divide(ids - 5, COL - 2, out=np.zeros(ids.shape), where=COL != 2))[..., None]),
    ("integers of reals", "let t = to_f32(reshape(positions, [T, 1])) - 4; let y = x * to_f32(to_i32(t * 0.7));",
     lambda x, **_: x * np.trunc((ROW - 4) * 0.7)),
    ("tables", "let y = x + table[clamp(positions, 0, 5)];",
     lambda x, table, **_: x + table[np.minimum(COL, 5)]),
    ("a computed table", "let y = x + (tanh(table) @ P)[clamp(positions, 0, 5)];",
     lambda x, table, P, **_: x + (np.tanh(table) @ P)[np.minimum(COL, 5)]),
    ("a part of a computed table", "let r = table @ P;"
     " let n = clamp(positions, 0, 5); let y = x + concat(r[:, 3:d], tanh(r[:, 0:3]))[n] + r[:, 1:2][n];",
     lambda x, table, P, **_: (lambda r: x + np.concatenate([r[:, 3:], np.tanh(r[:, :3])], -1)[np.minimum(COL, 5)] + r[np.minimum(COL, 5), 1:2])(
         table @ P)),
    ("long chains of doubled values", "let n = positions; let a = x; let c = sum(x); let s = row - col; let b = s >= 0;"
     " repeat i in 0:50 { b = b & row - col < 4 + i & b; n = (n + n) / 2; a = (a + a) * 0.5; c = c * 0.75 + c * 0.25; s = (s + s) / 2; }"
     " let q = split_heads(a @ P, heads); repeat i in 0:50 { q = (q + q) * 0.5; } let k = split_heads(x * u, heads) at keys; let v = split_heads(x, heads) at values;"
     " let y = c * table[clamp(n, 0, 5)] + merge_heads(softmax(q @ k' / 3 - to_f32(s) / 4, where = s >= 0 & s < 20 & b) @ v);",
     lambda x, u, P, table, **_: x.sum(-1, keepdims=True) * table[np.minimum(COL, 5)] + attention(
         heads(x @ P), heads(x * u), heads(x), 1 / 3, (ROW - COL >= 0) & (ROW - COL < 4), (COL - ROW) / 4)),
    ("const vectors", "let y = x * fall - fall[2] * u + tanh(fall[1:d-1])[1:2] * merge_heads(split_heads(x, heads) * part);",
     lambda x, u, **_: (lambda f, p: x * f - f[2] * u + np.tanh(f[2]) * x * np.tile(p, HEADS))(
         1 / (1 + np.arange(len(u))), np.sqrt(1 + np.arange(len(u) // HEADS)))),
    ("const matrices", "let y = x * waves[positions] + (waves @ P)[tokens * 9] + tanh(waves * u)[5 - clamp(positions, 0, 5)];",
     lambda x, u, P, ids, **_: (lambda m: x * m[COL] + (m @ P)[ids * 9] + np.tanh(m * u)[5 - np.clip(COL, 0, 5)])(
         waves(len(u)))),
    ("lookups in vectors", "let y = x * reshape(fall[clamp(positions, 0, 9)] + u[tokens], [T, 1]);",
     lambda x, u, ids, **_: x * (1 / (1 + np.minimum(COL, 9)) + u[ids])[..., None]),
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
     lambda x, **_: np.concatenate([x[..., 3:9] * 2, x[..., :3]], -1) + x[..., 5:6] * x[..., 11:20], lambda d: 9),
    ("slices of products", "let a = x @ P; let y = concat(a[:, 0:7], a[:, 7:d]) + shift(a[:, 0:1], 1);",
     lambda x, P, **_: x @ P + shifted((x @ P)[..., :1], 1)),
    ("a column for all", "let y = x + reshape(x[:, 5], [T, 1]) * w;", lambda x, w, **_: x + x[..., 5:6] * w),
    ("parts in sums", "let a = layernorm(x, 1e-5) * u; let y = a * mean(a[:, 0:5]) + x[:, 1:2] * sum(a * x) + shift(a[:, 3:d], 1)[:, 0:1] * w;",
     lambda x, u, w, **_: (lambda a: a * a[..., :5].mean(-1, keepdims=True) + x[..., 1:2] * (a * x).sum(-1, keepdims=True) +
                           shifted(a, 1)[..., 3:4] * w)(norm(x) * u)),
    ("neighbours of neighbours", "let a = shift(tanh(x), 1) + u; let b = cumsum(a * x[:, 2:3]); let y = b / 9 + shift(b, -1)[:, 4:5] + shift(a, 1);",
     lambda x, u, **_: (lambda a: (lambda b: b / 9 + shifted(b, -1)[..., 4:5] + shifted(a, 1))(np.cumsum(a * x[..., 2:3], 1)))(
         shifted(np.tanh(x), 1) + u)),
    ("concat", "let y = concat(concat(x * u, tanh(x)), x[:, 0:1] * 3);",
     lambda x, u, **_: np.concatenate([x * u, np.tanh(x), x[..., :1] * 3], -1), lambda d: 2 * d + 1),
    ("reshape and permute", "let y = merge_heads(permute(reshape(x * u, [T, heads, dh]), [1, 0, 2]));", lambda x, u, **_: x * u),
    ("broadcast", "let y = x + broadcast(u, [T, d]) * broadcast(x[:, 2:3], [T, d]);", lambda x, u, **_: x + u * x[..., 2:3]),
    ("parts of heads", "let a = split_heads(x @ P, heads); let y = merge_heads(concat(a[:, :, 3:dh], tanh(a[:, :, 0:3])));",
     lambda x, P, **_: (lambda a: merged(np.concatenate([a[..., 3:], np.tanh(a[..., :3])], -1)))(heads(x @ P))),
    ("norms of heads", "let a = split_heads(x @ P, heads); let y = merge_heads(rmsnorm(a, 1e-5) * (1 + h) + layernorm(a, 1e-5) * sum(a));",
     lambda x, P, h, **_: (lambda a: merged(rms(a) * (1 + h) + norm(a) * a.sum(-1, keepdims=True)))(heads(x @ P))),
    ("rotary positions", "let y = merge_heads(rope(split_heads(x, heads), positions, f));", lambda x, **_: merged(turned(heads(x)))),
    ("rotary positions on a part", "let a = split_heads(x @ P, heads); let y = merge_heads(concat(a[:, :, 0:1], rope(a[:, :, 1:dh], positions, f)));",
     lambda x, P, **_: (lambda a: merged(np.concatenate([a[..., :1], turned(a[..., 1:])], -1)))(heads(x @ P))),
    ("rotary positions on neighbours", "let y = merge_heads(rope(split_heads(x @ P, heads), positions, f, interleaved = true)) +"
     " merge_heads(rope(split_heads(x, 1), positions, many, interleaved = true));",
     lambda x, P, **_: merged(turned_neighbours(heads(x @ P), (1, 0.1))) + merged(turned_neighbours(heads(x, 1), 0.9 ** np.arange(10)))),
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
    ("capped scores with relative terms", "let c = clamp(row - col + 3, 0, 6);"
     " let q = split_heads(x @ P, heads); let k = split_heads(x * u, heads) at keys; let v = split_heads(x, heads) at values;"
     " let r = split_heads(places @ P, heads); let y = merge_heads(softmax(tanh((q @ k' + take(q @ r', c)) / 2)) @ v);",
     lambda x, u, P, places, **_: (lambda q, r: merged(softmax(np.tanh((q @ heads(x * u).swapaxes(-1, -2) + np.take_along_axis(
         q @ r.swapaxes(-1, -2), np.broadcast_to(np.clip(ROW - COL + 3, 0, 6), (B, HEADS, T, T)), -1)) / 2)) @ heads(x)))(
             heads(x @ P), heads((places @ P)[None]))),
    ("grouped heads", "let q = split_heads(x @ P, heads); let k = repeat_heads(split_heads(x[:, 0:d/2], 2) at keys, heads);"
     " let v = repeat_heads(split_heads(x[:, d/2:d], 2) at values, heads); let y = merge_heads(softmax(q @ k', where = col <= row) @ v);",
     lambda x, P, **_: attention(heads(x @ P), *(heads(part, 2).repeat(2, 1) for part in np.split(x, 2, -1)))),
    ("biases by distance", QKV + " let y = merge_heads(softmax(q @ k' / 3 - reshape(slope, [heads, 1, 1]) * (row - col), where = col <= row) @ v);",
     lambda x, u, P, **_: attention(heads(x @ P), heads(x * u), heads(x), 1 / 3, None, SLOPE * (COL - ROW))),
    ("masks of other forms", QKV + " let y = merge_heads(softmax(q @ k', where = col <= row & (row - col) / 2 * 2 == row - col | col < 2) @ v);",
     lambda x, u, P, **_: attention(heads(x @ P), heads(x * u), heads(x), 1, (COL <= ROW) & ((ROW - COL) % 2 == 0) | (COL < 2))),
    ("queries that see nothing", QKV + " let y = x + merge_heads(softmax(q @ k', where = col < row & !(row == 5)) @ v);",
     lambda x, u, P, **_: x + attention(heads(x @ P), heads(x * u), heads(x), 1, (COL < ROW) & (ROW != 5))),
    ("masks and biases of each head", QKV + " let a = reshape(slope, [heads, 1, 1]);"
     " let y = merge_heads(softmax((q @ k' - 2 * a * abs(to_f32(row - col)) + exp(-a * col)) * 0.7, where = a < 0.3 | col <= row) @ v);",
     lambda x, u, P, **_: attention(heads(x @ P), heads(x * u), heads(x), 0.7, (SLOPE < 0.3) | (COL <= ROW),
                                    0.7 * (np.exp(-SLOPE * COL) - 2 * SLOPE * abs(ROW - COL)))),
    ("capped scores with biases", QKV + " let y = merge_heads(softmax(2 * tanh((q @ k' / 3 + to_f32(col - row) / 10) / 2), where = col <= row) @ v);",
     lambda x, u, P, **_: merged(softmax(np.where(COL <= ROW, 2 * np.tanh((heads(x @ P) @ heads(x * u).swapaxes(-1, -2) / 3 + (COL - ROW) / 10) / 2),
                                                  -1e30)) @ heads(x))),
    ("relative terms with a mask and biases", "let c = clamp(row - col + 3, 0, 6); " + QKV + " let r = split_heads(places @ P, heads);"
     " let y = merge_heads(softmax(q @ k' + take(q @ r', c) + 0.1 * to_f32(row) - reshape(slope, [heads, 1, 1]) * col, where = col != row + 1) @ v);",
     lambda x, u, P, places, **_: (lambda q, r: attention(q, heads(x * u), heads(x), 1, COL != ROW + 1, 0.1 * ROW - SLOPE * COL + np.take_along_axis(
         q @ r.swapaxes(-1, -2), np.broadcast_to(np.clip(ROW - COL + 3, 0, 6), (B, HEADS, T, T)), -1)))(heads(x @ P), heads((places @ P)[None]))),
    ("take", "let c = clamp(row - col + 3, 0, 6); let q = split_heads(x @ P, heads);"
     " let k = split_heads(x * u, heads) at keys; let v = split_heads(x, heads) at values; let r = split_heads(places @ P, heads);"
     " let y = merge_heads(softmax(q @ k' + take(q @ r', c), where = col <= row) @ v);",
     lambda x, u, P, places, **_: (lambda q, r: merged(softmax(np.where(COL <= ROW, q @ heads(x * u).swapaxes(-1, -2) + np.take_along_axis(
         q @ r.swapaxes(-1, -2), np.broadcast_to(np.clip(ROW - COL + 3, 0, 6), (B, HEADS, T, T)), -1), -1e30)) @ heads(x)))(
             heads(x @ P), heads((places @ P)[None]))),
    ("relative terms of both sides", f"{QKV} let kr = split_heads(waves @ P, heads); let qr = split_heads(tanh(waves * w), heads); {BANDS}",
     lambda x, u, w, P, **_: (lambda q, k, r: attention(q, k, heads(x), 1 / 3, True, bands(q, k, heads((r @ P)[None]), heads(np.tanh(r * w)[None])) / 3))(
         heads(x @ P), heads(x * u), waves(x.shape[-1]))),
    ("relative terms, a table that is not trained", f"{QKV} let kr = split_heads(waves @ P, heads); let qr = split_heads(waves, heads); {BANDS}",
     lambda x, u, P, **_: (lambda q, k, r: attention(q, k, heads(x), 1 / 3, True, bands(q, k, heads((r @ P)[None]), heads(r[None])) / 3))(
         heads(x @ P), heads(x * u), waves(x.shape[-1]))),
    ("compile-time choice", "let y = x; repeat i in 0:3 { if i % 2 == 0 { y = y * u + i; } else { y = tanh(y); } }",
     lambda x, u, **_: np.tanh(x * u) * u + 2),
]


class Operators:
    """All cases for heads of one size."""

    def __init__(self, checks, loracc, folder, size):
        self.checks, self.loracc, self.folder, self.d, self.random = checks, loracc, folder, HEADS * size, np.random.default_rng(5)
        shapes = {"E": (VOCABULARY, self.d), "u": (self.d,), "w": (self.d,), "h": (size,), "P": (self.d, self.d), "table": (6, self.d),
                  "places": (7, self.d)}
        self.weights = {name: self.normal(shape, self.d ** -0.5 if name == "P" else 0.8) for name, shape in shapes.items()}
        self.ids = self.random.integers(0, VOCABULARY, (B, T)).astype(np.int32)
        (folder / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY, "model_type": "operators"}))
        save(folder / "in", {"input_ids": self.ids})
        save(folder / "batches", {"input_ids": self.ids[None], "labels": self.ids[None]})

    def normal(self, shape, scale):
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def compile(self, name, *options):
        return self.checks.run(self.loracc, self.folder / "case.ldl", "--weights", self.folder, "--batch", B, "--length", T + 3, *options,
                               "-o", self.folder / name) is not None

    def check(self, name, body, formula, columns=lambda d: d):
        m, name = columns(self.d), f"{name}, {T} x {self.d}"
        self.weights["W"] = self.normal((m, VOCABULARY), 0.5)
        save(self.folder / "model.safetensors", self.weights)
        (self.folder / "case.ldl").write_text(MODEL.format(d=self.d, m=m, body=body))
        inputs = {key: value.astype(np.float64) for key, value in self.weights.items()}
        want = formula(x=inputs["E"][self.ids], ids=self.ids, **inputs) @ inputs["W"]
        if self.compile("case"):
            for tier in "generic", json.loads(self.checks.run(self.folder / "case", "--info", "--json"))["tier"]:
                if self.checks.run(self.folder / "case", "--logits", self.folder / "in", self.folder / "out", "--tier", tier) is not None:
                    self.checks.within(error(load(self.folder / "out")["logits"], want), LIMIT, f"{name}: {tier}")
        if self.compile("train", "--method", "full"):
            done = self.checks.run(self.folder / "train", "--tensors", self.folder / "batches", "--check")
            self.checks.that(done is not None, f"{name}: gradients")

    def check_missing_rows(self):
        """Where a lookup has no row stands no number, and positions without one are refused."""
        self.weights["W"] = self.normal((self.d, VOCABULARY), 0.5)
        save(self.folder / "model.safetensors", self.weights)
        (self.folder / "case.ldl").write_text(MODEL.format(d=self.d, m="d", body="let y = x + table[tokens - 4];"))
        if self.compile("case") and self.checks.run(self.folder / "case", "--logits", self.folder / "in", self.folder / "out") is not None:
            none = np.isnan(load(self.folder / "out")["logits"]).all(-1)
            self.checks.that((none == ((self.ids < 4) | (self.ids >= 10))).all(), "rows that are not there")
        if self.compile("train", "--method", "full"):
            self.checks.run(self.folder / "train", "--tensors", self.folder / "batches", "--check", fails=1)
        (self.folder / "case.ldl").write_text(MODEL.format(d=self.d, m="d", body="let y = x + table[positions + 2];"))
        if self.compile("case"):
            self.checks.that(json.loads(self.checks.run(self.folder / "case", "--info", "--json"))["max_length"] == 4, "positions without rows")
            self.checks.run(self.folder / "case", "--logits", self.folder / "in", self.folder / "out", fails=2)


def main():
    checks, loracc = Checks(), pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        for size, length in *((size, T) for size in SIZES), (SIZES[0], LONG):
            set_length(length)
            operators = Operators(checks, loracc, pathlib.Path(folder), size)
            for case in CASES:
                if length < LONG or "q @ k'" in case[1]:
                    operators.check(*case)
        operators.check_missing_rows()
    checks.finish()


if __name__ == "__main__":
    main()
