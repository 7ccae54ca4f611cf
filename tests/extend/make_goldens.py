#!/usr/bin/env python3
"""Makes the reference numbers of this folder anew, with PyTorch, transformers and PEFT in double precision; their form is that of
tests/data/goldens.

    "$(tests/bench/setup)" tests/extend/make_goldens.py"""
import json
import pathlib
import shutil

import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
GPT2 = HERE.parent / "data/goldens/gpt2"
random = torch.Generator().manual_seed(1)


def normal(*shape):
    return torch.randn(shape, generator=random, dtype=torch.float64).float().double()


def batch(vocabulary, length, lengths):
    ids = torch.randint(0, vocabulary, (len(lengths), length), generator=random)
    mask = (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": torch.where(mask == 1, ids, -100)}


def write(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: (v.detach().float() if v.is_floating_point() else v).contiguous() for k, v in tensors.items()}, path)


def results(logits_of, given, trained=None):
    """Loss and logits, and the gradients of what is trained."""
    logits, labels = logits_of(given), given["labels"]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    gradients = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())))) if trained else {}
    return {"logits": logits * given["attention_mask"][..., None], "loss": loss} | {f"grad.{k}": g for k, g in gradients.items()}


def write_model(folder, config, tensors, logits_of, vocabulary):
    """All but the adapters; what the adapters are compared on."""
    shutil.rmtree(folder / "adapters", ignore_errors=True)
    folder.mkdir(exist_ok=True)
    cases = {"plain": [21] * 3, "padded": [21, 13, 5], "single": [2], "adapter": [21, 14]}
    cases = {name: batch(vocabulary, max(lengths), lengths) for name, lengths in cases.items()}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    write(folder / "model.safetensors", tensors)
    write(folder / "inputs.safetensors", {f"{c}.{k}": v for c, given in cases.items() for k, v in given.items()})
    adapter = cases.pop("adapter")
    write(folder / "expected.safetensors", {f"{c}.{k}": v for c, given in cases.items() for k, v in results(logits_of, given).items()})
    return adapter


def write_adapter(folder, config, tensors, expected):
    write(folder / "adapter_model.safetensors", tensors)
    write(folder / "expected.safetensors", expected)
    if config:
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def operator():
    """softplus between two products; every weight is trained."""
    d, vocabulary = 24, 40
    w = {"embed.weight": normal(vocabulary, d), "up.weight": normal(d, 50) / d ** 0.5, "up.bias": 0.5 * normal(50),
         "down.weight": normal(50, d) / 50 ** 0.5}

    def logits(given):
        x = w["embed.weight"][given["input_ids"]]
        return (x + F.softplus(x @ w["up.weight"] + w["up.bias"]) @ w["down.weight"]) @ w["embed.weight"].T
    given = write_model(HERE / "operator", {"model_type": "operator", "hidden_size": d, "vocab_size": vocabulary}, w, logits, vocabulary)
    for value in w.values():
        value.requires_grad_()
    expected = results(logits, given, w)
    write_adapter(HERE / "operator/adapters/full", {"method": "full"}, w, expected | {"merged_logits": expected["logits"]})


def method():
    """PEFT's AdaLoRA at a fixed rank, on GPT-2's fused projection."""
    model = transformers.AutoModelForCausalLM.from_pretrained(GPT2, dtype=torch.float64, attn_implementation="eager").eval()
    config = peft.AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["c_attn"], init_r=4, target_r=4, lora_alpha=8, total_step=10,
                                fan_in_fan_out=True)
    model = peft.get_peft_model(model, config, autocast_adapter_dtype=False).double()
    tensors = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".lora_" in name:
            parameter.data = normal(*parameter.shape) / (1 if "lora_E" in name else parameter.shape[-1] ** 0.5)
            module, _, part = name.removeprefix("base_model.model.").removesuffix(".default").rpartition(".lora_")
            tensors[f"{module}.svd_lora.{part.replace('E', 'e')}"] = parameter
    given = {k.removeprefix("adapter."): v for k, v in load_file(GPT2 / "inputs.safetensors").items() if k.startswith("adapter.")}
    expected = results(lambda b: model(b["input_ids"], b["attention_mask"]).logits, given, tensors)
    flat = lambda k, v: v.flatten() if k.endswith(".e") else v
    expected = {k: flat(k, v) for k, v in expected.items()}
    write_adapter(HERE / "method", {"method": "svd_lora", "targets": "c_attn", "r": 4, "alpha": 8}, {k: flat(k, v) for k, v in tensors.items()},
                  expected | {"merged_logits": expected["logits"]})


def family():
    """OPT with LoRA on q and v."""
    config = transformers.OPTConfig(vocab_size=90, hidden_size=36, word_embed_proj_dim=36, ffn_dim=50, num_hidden_layers=2, num_attention_heads=3,
                                    max_position_embeddings=64, dropout=0.0, attention_dropout=0.0)
    config._attn_implementation = "eager"
    model = transformers.OPTForCausalLM(config).double().eval()
    for name, parameter in model.named_parameters():
        scale = 0.2 if parameter.ndim == 1 else 0.3 if "embed" in name else 1.3 / parameter.shape[1] ** 0.5
        parameter.data = scale * normal(*parameter.shape) + ("norm.weight" in name)
    logits = lambda b: model(b["input_ids"], b["attention_mask"]).logits
    config.architectures = ["OPTForCausalLM"]
    tensors = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    given = write_model(HERE / "family", json.loads(config.to_json_string()), tensors, logits, 90)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=4, lora_alpha=7),
                                autocast_adapter_dtype=False).double()
    tensors = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".lora_" in name:
            parameter.data = normal(*parameter.shape) / parameter.shape[1] ** 0.5
            tensors[name.replace(".default", "")] = parameter
    expected = results(logits, given, tensors)
    folder = HERE / "family/adapters/lora_qv"
    model.peft_config["default"].base_model_name_or_path = None
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    write_adapter(folder, None, tensors, expected | {"merged_logits": expected["logits"]})


if __name__ == "__main__":
    operator()
    method()
    family()
