"""LoRA training of a LLaMA-type model in plain PyTorch, eager f32, written for speed: fused attention, the scale on the small tensor,
nothing frozen gets a gradient."""
import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class Layer:
    def __init__(self, model, prefix, rank):
        weight = lambda name: model.state[f"{prefix}.{name}.weight"]
        self.model = model
        self.q, self.k, self.v, self.o = (weight(f"self_attn.{n}_proj") for n in "qkvo")
        self.gate, self.up, self.down = (weight(f"mlp.{n}_proj") for n in ("gate", "up", "down"))
        self.norm1, self.norm2 = weight("input_layernorm"), weight("post_attention_layernorm")
        self.qa, self.va = (torch.randn(rank, len(self.q)) * 0.02 for _ in "qv")
        self.qb, self.vb = torch.zeros(len(self.q), rank), torch.zeros(len(self.v), rank)
        model.adapters += [t.requires_grad_() for t in (self.qa, self.qb, self.va, self.vb)]

    def __call__(self, x, cos, sin):
        eps, split = self.model.config["rms_norm_eps"], self.model.split
        h = F.rms_norm(x, x.shape[-1:], self.norm1, eps)
        q = F.linear(h, self.q) + F.linear(F.linear(h, self.qa) * 2.0, self.qb)
        v = F.linear(h, self.v) + F.linear(F.linear(h, self.va) * 2.0, self.vb)
        q, k, v = rotate(split(q), cos, sin), rotate(split(F.linear(h, self.k)), cos, sin), split(v)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + F.linear(o.transpose(1, 2).reshape(x.shape), self.o)
        h = F.rms_norm(x, x.shape[-1:], self.norm2, eps)
        return x + F.linear(F.silu(F.linear(h, self.gate)) * F.linear(h, self.up), self.down)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Model:
    def __init__(self, config, checkpoint, rank):
        self.config, self.state, self.adapters = config, load_file(checkpoint), []
        self.size = config["hidden_size"] // config["num_attention_heads"]
        self.layers = [Layer(self, f"model.layers.{i}", rank) for i in range(config["num_hidden_layers"])]
        self.frequencies = config["rope_parameters"]["rope_theta"] ** -(torch.arange(0, self.size, 2) / self.size)

    def split(self, x):
        return x.view(*x.shape[:2], -1, self.size).transpose(1, 2)

    def loss(self, ids, labels):
        table, norm = self.state["model.embed_tokens.weight"], self.state["model.norm.weight"]
        angle = torch.outer(torch.arange(ids.shape[1]), self.frequencies)
        x, cos, sin = F.embedding(ids, table), angle.cos(), angle.sin()
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = F.linear(F.rms_norm(x, x.shape[-1:], norm, self.config["rms_norm_eps"]), table)
        return F.cross_entropy(logits.flatten(0, 1), F.pad(labels, (0, 1), value=-100)[:, 1:].flatten())

    def trained(self):
        return self.adapters
