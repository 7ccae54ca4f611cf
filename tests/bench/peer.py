"""A LoRA training step of a LLaMA-type model in plain PyTorch, eager f32, written for speed: fused attention and AdamW, the scale on
the small tensor, nothing frozen gets a gradient.

    peer.py CONFIG.json BATCH LENGTH RANK      waits for lines on standard input; a step each; prints its seconds
"""
import json
import os
import sys
import time

import torch
import torch.nn.functional as F

config = json.load(open(sys.argv[1]))
batch, length, rank = map(int, sys.argv[2:5])
d, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
groups, words, layers = config["num_key_value_heads"], config["vocab_size"], config["num_hidden_layers"]
size = d // heads
torch.set_num_threads(len(os.sched_getaffinity(0)))
torch.manual_seed(0)


def weight(*shape):
    return torch.empty(*shape).normal_(0, 0.02)


def trained(tensor):
    return tensor.requires_grad_()


class Layer:
    def __init__(self):
        kv = groups * size
        self.q, self.k, self.v, self.o = weight(d, d), weight(kv, d), weight(kv, d), weight(d, d)
        self.gate, self.up, self.down = weight(inner, d), weight(inner, d), weight(d, inner)
        self.norm1, self.norm2 = torch.ones(d), torch.ones(d)
        self.qa, self.qb = trained(weight(rank, d)), trained(torch.zeros(d, rank))
        self.va, self.vb = trained(weight(rank, d)), trained(torch.zeros(kv, rank))

    def adapters(self):
        return [self.qa, self.qb, self.va, self.vb]

    def __call__(self, x, cos, sin):
        h = F.rms_norm(x, (d,), self.norm1, config["rms_norm_eps"])
        q = F.linear(h, self.q) + F.linear(F.linear(h, self.qa) * 2.0, self.qb)
        k = F.linear(h, self.k)
        v = F.linear(h, self.v) + F.linear(F.linear(h, self.va) * 2.0, self.vb)
        q, k, v = (t.view(batch, length, -1, size).transpose(1, 2) for t in (q, k, v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + F.linear(o.transpose(1, 2).reshape(batch, length, d), self.o)
        h = F.rms_norm(x, (d,), self.norm2, config["rms_norm_eps"])
        return x + F.linear(F.silu(F.linear(h, self.gate)) * F.linear(h, self.up), self.down)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


model, table, norm = [Layer() for _ in range(layers)], weight(words, d), torch.ones(d)
angle = torch.outer(torch.arange(length), config.get("rope_theta", 10000.0) ** -(torch.arange(0, size, 2) / size))
cos, sin = angle.cos(), angle.sin()
optimizer = torch.optim.AdamW([p for layer in model for p in layer.adapters()], lr=1e-3, weight_decay=0.01, fused=True)
for _ in sys.stdin:
    ids = torch.randint(0, words, (batch, length + 1))
    start = time.perf_counter()
    x = F.embedding(ids[:, :-1], table)
    for layer in model:
        x = layer(x, cos, sin)
    logits = F.linear(F.rms_norm(x, (d,), norm, config["rms_norm_eps"]), table)
    F.cross_entropy(logits.view(-1, words), ids[:, 1:].reshape(-1)).backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    del x, logits
    print(time.perf_counter() - start, flush=True)
