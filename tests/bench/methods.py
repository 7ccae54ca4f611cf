"""The methods in PyTorch: PEFT's where PEFT has one, else small modules hooked into transformers' model; and the same for loracc.

What follows the name is the family: where its attention and feed-forward parts are, and what PEFT calls q and v in it."""
import peft
import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

LEARNED = {"prefix_embedding": 8, "prefix_layer": 8, "prefix_tuning": 20, "prompt_tuning": 20}
BOTTLENECK, RANK_VERA = 64, 256

POST_NORM = {"attention": "attention.output.dense", "mlp": "output.dense", "feedforward": "output.dense", "post_norm": True}
FAMILY = {
    "gpt2": {"blocks": "transformer.h", "attention": "attn.c_proj", "mlp": "mlp", "qv": ["c_attn"], "kv": ["c_attn"],
             "feedforward": "mlp.c_proj"},
    "llama": {"blocks": "model.layers", "attention": "self_attn", "mlp": "mlp", "qv": ["q_proj", "v_proj"], "kv": ["k_proj", "v_proj"],
              "feedforward": "down_proj"},
    "bert": POST_NORM | {"blocks": "bert.encoder.layer", "qv": ["query", "value"], "kv": ["key", "value"]},
    "roberta": POST_NORM | {"blocks": "roberta.encoder.layer", "qv": ["query", "value"], "kv": ["key", "value"]},
    "deberta": POST_NORM | {"blocks": "deberta.encoder.layer", "qv": ["in_proj"], "kv": ["in_proj"]},
    "deberta-v2": POST_NORM | {"blocks": "deberta.encoder.layer", "qv": ["query_proj", "value_proj"], "kv": ["key_proj", "value_proj"]},
}
LORA = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}, "pissa": {"init_lora_weights": "pissa"},
        "olora": {"init_lora_weights": "olora"}, "lora-fa": {}}


class Bottleneck(nn.Module):
    def __init__(self, width, activation, normed=False):
        super().__init__()
        self.norm, self.activation = nn.LayerNorm(width) if normed else nn.Identity(), activation
        self.down, self.up = nn.Linear(width, BOTTLENECK), nn.Linear(BOTTLENECK, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        return self.up(self.activation(self.down(self.norm(x))))


class Adapted:
    """A model with a method: its loss, and what is trained."""

    def __init__(self, model, method, rank):
        self.model, self.method, self.family = model, method, FAMILY[model.config.model_type]
        self.width, self.own = model.config.hidden_size, nn.ParameterList()
        self.classifies = hasattr(model, "classifier")
        model.requires_grad_(False)
        config = self.peft_config(rank)
        if config:
            self.model = peft.get_peft_model(model, config)
            for name, parameter in self.model.named_parameters():
                if method == "lora-fa" and "lora_A" in name:
                    parameter.requires_grad_(False)
        else:
            if self.classifies:
                model.classifier.requires_grad_(True)
            getattr(self, method, self.bottlenecks)()

    def loss(self, ids, labels):
        n = 0 if isinstance(self.model, peft.PeftModel) else LEARNED.get(self.method, 0)
        if not n or self.method == "prefix_tuning":
            return self.model(input_ids=ids, labels=labels).loss
        rows = self.prefix.expand(len(ids), -1, -1)
        embedded = torch.cat((rows, self.model.get_input_embeddings()(ids)), 1)
        if not self.classifies:
            labels = F.pad(labels, (n, 0), value=-100)
        return self.model(inputs_embeds=embedded, labels=labels).loss

    def trained(self):
        return [p for p in self.model.parameters() if p.requires_grad] + list(self.own)

    def peft_config(self, rank):
        task, fused = "SEQ_CLS" if self.classifies else "CAUSAL_LM", {"fan_in_fan_out": self.model.config.model_type == "gpt2"}
        if self.method in LORA:
            return peft.LoraConfig(task_type=task, r=rank, lora_alpha=2 * rank, target_modules=self.family["qv"], **fused,
                                   **LORA[self.method])
        if self.method == "vera":
            return peft.VeraConfig(task_type=task, r=RANK_VERA, target_modules=self.family["qv"], **fused)
        if self.method == "ia3":
            last = self.family["feedforward"]
            return peft.IA3Config(task_type=task, target_modules=self.family["kv"] + [last], feedforward_modules=[last], **fused)
        if self.method == "prompt_tuning":
            return peft.PromptTuningConfig(task_type=task, num_virtual_tokens=LEARNED[self.method])
        if self.method == "prefix_tuning" and not self.classifies:
            return peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=LEARNED[self.method])
        return None

    def blocks(self):
        return self.model.get_submodule(self.family["blocks"])

    def add(self, *shape):
        self.own.append(nn.Parameter(torch.randn(*shape) * 0.02))
        return self.own[-1]

    # --- weights as they are ---

    def full(self):
        self.model.requires_grad_(True)

    def bitfit(self):
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name.endswith("bias"))

    def top_layers(self):
        for block in self.blocks()[-2:]:
            block.requires_grad_(True)

    # --- LoRA that knows tokens from places ---

    def content_lora(self):
        for block in self.blocks():
            for name in self.family["qv"]:
                a, b = self.add(8, self.width), self.add(self.width, 8)
                nn.init.zeros_(b)
                block.attention.self.get_submodule(name).register_forward_hook(
                    lambda module, args, out, a=a, b=b: out if len(args[0]) == 1 else out + F.linear(F.linear(args[0], a) * 2, b))

    # --- bottlenecks ---

    def bottleneck(self, activation=F.relu, normed=False):
        module = Bottleneck(self.width, activation, normed)
        self.own.extend(module.parameters())
        return module

    def bottlenecks(self):
        post_norm = self.family.get("post_norm")
        for number, block in enumerate(self.blocks()):
            if self.method == "houlsby":
                for place in self.family["attention"], self.family["mlp"]:
                    behind(block.get_submodule(place), self.bottleneck(F.silu))
            elif self.method == "lin":
                behind(block, self.bottleneck(normed=True))
            elif self.method == "parallel":
                f = self.bottleneck()
                if post_norm:
                    block.output.forward = lambda h, x, o=block.output, f=f: o.LayerNorm(o.dense(h) + 4 * f(x) + x)
                else:
                    block.mlp.register_forward_hook(lambda module, args, out, f=f: out + 4 * f(args[0]))
            elif self.method == "pfeiffer" or self.method == "adapterdrop" and number >= 1:
                f = self.bottleneck()
                if post_norm:
                    block.output.forward = lambda h, x, o=block.output, f=f: again(o, o.dense(h), x, f)
                else:
                    behind(block, f)

    # --- learned tokens ---

    def prefix_embedding(self):
        self.prefix = self.add(LEARNED[self.method], self.width)

    def prefix_layer(self):
        n = LEARNED[self.method]
        self.prefix = torch.zeros(n, self.width)
        for block in self.blocks():
            rows = self.add(n, self.width)

            def hook(module, args, kwargs, rows=rows):
                x = args[0] if args else kwargs["hidden_states"]
                x = torch.cat((rows.expand(len(x), -1, -1), x[:, n:]), 1)
                return ((x, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": x})
            block.register_forward_pre_hook(hook, with_kwargs=True)

    def prefix_tuning(self):
        """Of encoders, which PEFT gives no keys and values; DeBERTa's attention has no place for them."""
        self.model.config._attn_implementation = "prefixed"
        for block in self.blocks():
            module = block.attention.self
            module.learned = [self.add(LEARNED[self.method], module.num_attention_heads, module.attention_head_size) for _ in "kv"]


def prefixed(module, query, key, value, mask, **more):
    key, value = (torch.cat((rows.transpose(0, 1).expand(len(x), -1, -1, -1), x), 2) for rows, x in zip(module.learned, (key, value)))
    return sdpa_attention_forward(module, query, key, value, mask, **more)


transformers.AttentionInterface.register("prefixed", prefixed)
transformers.AttentionMaskInterface.register("prefixed", transformers.AttentionMaskInterface()["sdpa"])


def behind(module, f):
    """out + f(out), where the output may be the first of several."""
    module.register_forward_hook(lambda module, args, out: (out[0] + f(out[0]), *out[1:]) if isinstance(out, tuple) else out + f(out))


def again(output, m, x, f):
    return output.LayerNorm(m + f(output.LayerNorm(m + x)) + x)


def option(method, model_type, rank):
    """The method for loracc, on the modules that PEFT is given."""
    family = FAMILY[model_type]
    qv, kv, last = "+".join(family["qv"]), "+".join(family["kv"]), family["feedforward"]
    if method in LORA:
        return f"{method}:targets={qv},r={rank}"
    if method == "ia3":
        return f"ia3:targets={kv}+{last},feedforward={last}"
    return {"vera": f"vera:targets={qv}", "adapterdrop": "pfeiffer:drop_first=1"}.get(method, method)


def why_not(method, model_type, biases):
    """Why this pair is no row of the table."""
    if method == "content_lora" and model_type != "deberta-v2":
        return "weights meet tokens only: it is lora"
    if method == "prefix_tuning" and model_type.startswith("deberta"):
        return "no place for it in PyTorch's attention"
    if method == "olora" and model_type == "gpt2":
        return "PEFT decomposes the transpose of its weights"
    if method == "bitfit" and not biases:
        return "no biases"
    return None
