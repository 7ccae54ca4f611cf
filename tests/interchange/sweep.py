"""Random small models with random adapters of PEFT: loss, gradients and logits of our programs beside PyTorch's in double precision.

    sweep.py [FIRST [COUNT]]       seeds; by default 0 and 20

Sizes, ranks, lengths and settings are drawn, so that what no one thought of is met as well: heads of 6 numbers, rank 1, scaling 1, an
activation that the published models lack.  How far off a result may be depends on the model: what PyTorch's own result changes by when
every module's output is moved by the rounding of single precision, times SLACK; and never more than CEILING of the largest element."""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
import numpy as np
import peft
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/e2e"), str(ROOT / "tests/bench")]
from common import Checks, error, load, plain, save
from goldens import compared, family
from methods import FAMILY

SLACK, FLOOR, CEILING, ROUNDING = 10, 2e-5, 1e-2, 2.0 ** -24
RANKS = [1, 2, 3, 5, 8, 16, 33]


def config_of(draw):
    """The model_type, and keys of a config.json."""
    kind = draw.choice(["gpt2", "llama", "mistral", "qwen2", "qwen3", "bert", "roberta", "deberta", "deberta-v2"])
    heads, head = draw.randint(1, 6), draw.choice([6, 8, 10, 16, 18, 24, 32, 64])
    act, vocabulary, layers = draw.choice(["gelu", "gelu_new", "relu", "silu"]), draw.randint(40, 700), draw.randint(1, 3)
    if kind == "gpt2":
        return kind, {"n_embd": heads * head, "n_head": heads, "n_layer": layers, "vocab_size": vocabulary, "n_positions": 256,
                      "n_inner": draw.choice([None, draw.randint(8, 200)]), "activation_function": act, "embd_pdrop": 0.0,
                      "attn_pdrop": 0.0, "resid_pdrop": 0.0, "tie_word_embeddings": draw.random() < 0.7}
    config = {"hidden_size": heads * head, "num_attention_heads": heads, "num_hidden_layers": layers, "vocab_size": vocabulary,
              "intermediate_size": draw.randint(8, 250), "hidden_act": act, "max_position_embeddings": 256, "pad_token_id": 0}
    if kind in ("llama", "mistral", "qwen2", "qwen3"):
        shared = [k for k in range(1, heads + 1) if heads % k == 0]
        config |= {"num_key_value_heads": draw.choice(shared), "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
                   "tie_word_embeddings": draw.random() < 0.5, "bos_token_id": None, "eos_token_id": None}
        if kind == "llama":
            config |= {"attention_bias": draw.random() < 0.3, "mlp_bias": draw.random() < 0.3}
        if kind == "mistral":
            config |= {"sliding_window": draw.choice([None, 3, 17]), "head_dim": head}
        if kind == "qwen3":
            config |= {"head_dim": draw.choice([8, 20])}
        return kind, config
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": draw.choice([1, 2, 7]), "type_vocab_size": 1}
    if kind == "roberta":
        config |= {"pad_token_id": 1}
    if kind.startswith("deberta"):
        config |= {"type_vocab_size": 0, "relative_attention": True, "max_relative_positions": -1, "pooler_hidden_act": "gelu",
                   "pos_att_type": draw.choice([["c2p", "p2c"], ["c2p"], ["p2c"]]), "position_biased_input": draw.random() < 0.3}
    if kind == "deberta-v2":
        config |= {"position_buckets": draw.choice([-1, 8, 30]), "share_att_key": draw.random() < 0.6,
                   "norm_rel_ebd": draw.choice(["layer_norm", "none"]), "conv_kernel_size": draw.choice([0, 3]), "conv_act": "gelu"}
    return kind, config


def adapters_of(draw, kind, task):
    """Name and PEFT's configuration of some adapters."""
    qv, kv, last = (FAMILY["llama" if kind in ("mistral", "qwen2", "qwen3") else kind][k] for k in ("qv", "kv", "feedforward"))
    fused, rank = {"fan_in_fan_out": kind == "gpt2"}, draw.choice(RANKS)
    lora = {"task_type": task, "r": rank, "lora_alpha": draw.choice([rank, 2 * rank, 7]), "target_modules": qv, **fused}
    every = {
        "lora": peft.LoraConfig(**lora),
        "dora": peft.LoraConfig(**lora, use_dora=True),
        "rslora": peft.LoraConfig(**lora, use_rslora=True),
        "one layer": peft.LoraConfig(**lora, layers_to_transform=[0]),
        "all-linear": peft.LoraConfig(**lora | {"target_modules": "all-linear"}),
        "vera": peft.VeraConfig(task_type=task, r=draw.choice(RANKS), target_modules=qv, **fused),
        "ia3": peft.IA3Config(task_type=task, target_modules=kv + [last], feedforward_modules=[last], **fused),
        "prompt tuning": peft.PromptTuningConfig(task_type=task, num_virtual_tokens=draw.randint(1, 9)),
    }
    if task == "CAUSAL_LM":
        every["prefix tuning"] = peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=draw.randint(1, 9))
    if kind == "deberta-v2":  # with a convolution, which is no linear module for PEFT
        del every["all-linear"]
    return draw.sample(sorted(every.items()), 4)


def randomise(model):
    """Peaked attention, norms that are not 1, biases that are not 0."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(0.2 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * (0.3 if "emb" in name or "wte" in name or "wpe" in name else 1.3 / p[0].numel() ** 0.5))


def batch_of(draw, kind, config):
    rows, longest, pad = draw.randint(1, 4), draw.choice([5, 20, 60, 100]), config.get("pad_token_id") or 0
    lengths = [draw.randint(3, longest) for _ in range(rows)]
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(2, config["vocab_size"], mask.shape) * mask + pad * (1 - mask)
    if "num_labels" in config:
        labels = torch.randn(rows, dtype=torch.float64) if config["num_labels"] == 1 else torch.randint(0, config["num_labels"], (rows,))
    else:
        labels = torch.where(mask == 1, ids, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def saved_parameters(model):
    """What is trained, by the names of the adapter's file."""
    by_address = {p.data_ptr(): p for p in model.parameters() if p.requires_grad}
    found = {name: by_address[t.data_ptr()] for name, t in peft.get_peft_model_state_dict(model).items() if t.data_ptr() in by_address}
    for name, p in model.named_parameters():  # PEFT copies what learned tokens are made from
        if p.requires_grad and "prompt_encoder" in name:
            found["prompt_embeddings"] = p
    return found


def evaluate(model, batch, rounding=0.0):
    """Logits, loss and gradients; `rounding`: of each module's output."""
    def hook(module, args, out):
        return out * (1 + rounding * torch.randn_like(out)) if isinstance(out, torch.Tensor) and out.is_floating_point() else out
    hooks = [m.register_forward_hook(hook) for m in model.modules() if not list(m.children())] if rounding else []
    parameters = saved_parameters(model)
    out = model(**batch)
    gradients = torch.autograd.grad(out.loss, list(parameters.values()))
    for h in hooks:
        h.remove()
    logits = out.logits.reshape(len(out.logits), -1) if out.logits.ndim == 1 else out.logits  # DeBERTa's of one label
    return {"logits": logits, "loss": out.loss[None]} | dict(zip(parameters, gradients))


def as_arrays(tensors):
    return {k: v.detach().double().numpy() for k, v in tensors.items()}


class Sweep:
    def __init__(self, seed, scratch, checks):
        self.draw, self.scratch, self.folder, self.checks = random.Random(seed), scratch, scratch / "model", checks
        torch.manual_seed(seed)
        kind, config = config_of(self.draw)
        self.name, self.task = f"{seed} {kind}", "SEQ_CLS" if "num_labels" in config else "CAUSAL_LM"
        classes = {"SEQ_CLS": transformers.AutoModelForSequenceClassification, "CAUSAL_LM": transformers.AutoModelForCausalLM}
        self.auto = classes[self.task]
        model = self.auto.from_config(transformers.AutoConfig.for_model(kind, **config))
        randomise(model)
        model.save_pretrained(self.folder)
        self.ldl = ROOT / "examples" / f"{family(json.loads((self.folder / 'config.json').read_text()))}.ldl"
        self.batch = batch_of(self.draw, kind, config)
        self.adapters = adapters_of(self.draw, kind, self.task)
        save(scratch / "in", plain({k: v.numpy() for k, v in self.batch.items() if k != "labels"}))
        save(scratch / "batch", plain({k: v[None].numpy() for k, v in self.batch.items()}))

    def compile(self, what, *options):
        command = (ROOT / "build/release/loracc", self.ldl, "--weights", self.folder, "--batch", 4, "--length", 120, *options, "-o",
                   self.scratch / "program")
        done = subprocess.run([str(a) for a in command], capture_output=True, text=True, timeout=600)
        return done.returncode == 0 or self.checks.that(False, f"{what}: {options[0]}", done.stderr.strip()[-300:])

    def run(self, what, config):
        folder = self.scratch / what.replace(" ", "-")
        base = self.auto.from_pretrained(self.folder, dtype=torch.float32, attn_implementation="eager")
        model = peft.get_peft_model(base, config).eval()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.requires_grad:
                    p.mul_("lora_" not in name).add_(0.1 * torch.randn_like(p))
        model.save_pretrained(folder)
        model.double()
        exact = as_arrays(evaluate(model, self.batch))
        where = {"logits": compared(exact["logits"], {"attention_mask": self.batch["attention_mask"].numpy()})}
        moved = [as_arrays(evaluate(model, self.batch, ROUNDING)) for _ in range(3)]
        limits = {k: min(FLOOR + SLACK * max(error(m[k], v, where.get(k)) for m in moved), CEILING) for k, v in exact.items()}
        self.compare(f"{self.name} {what}", folder, exact, limits, where["logits"])

    def compare(self, what, folder, exact, limits, where):
        if self.compile(what, "--adapter", folder) and self.program(what, "--tensors", "batch", "--gradients"):
            ours, largest = load(self.scratch / "out"), max(np.abs(v).max() for k, v in exact.items() if k != "logits")
            ours["loss"] = np.reshape(ours["loss"], 1)
            off = {k: np.nan_to_num(error(ours.get(k, np.zeros(0)), v) / limits[k], nan=np.inf) for k, v in exact.items()
                   if k != "logits" and np.abs(v).max() > 1e-6 * largest}
            worst = max(off, key=off.get)
            self.checks.that(off[worst] <= 1, f"{what}: {len(off)} gradients and the loss", f"{off[worst]:.2f} of what {worst} may be")
        for way in ("--with",) if "tuning" in what else ("--with", "--merge"):
            if self.compile(what, way, folder) and self.program(what, "--logits", "in"):
                off = error(load(self.scratch / "out")["logits"], exact["logits"], where)
                self.checks.within(off, limits["logits"], f"{what}: logits {way}")

    def program(self, what, option, given, *more):
        return self.checks.run(self.scratch / "program", option, self.scratch / given, *more, self.scratch / "out") is not None


def main():
    first, count = (int(a) for a in (sys.argv[1:] + ["0", "20"][len(sys.argv) - 1:]))
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    checks = Checks()
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
            sweep = Sweep(seed, pathlib.Path(scratch), checks)
            for what, config in sweep.adapters:
                sweep.run(what, config)
    checks.finish()


if __name__ == "__main__":
    main()
