"""Training steps in PyTorch, eager f32: transformers' model with a method, or the hand-written one.  Imported by a server process that
forks one child for each run, so that the imports are paid once and every run has its own high-water mark of memory."""
import json
import os
import pathlib
import time
import warnings

import torch
import transformers
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

import methods
import plain

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def make_checkpoint(folder, config):
    """A model with random weights, as transformers saves it."""
    torch.manual_seed(0)
    architecture = transformers.AutoModelForSequenceClassification if "hidden_dropout_prob" in config else transformers.AutoModelForCausalLM
    settings = {k: v for k, v in config.items() if k != "model_type"}
    architecture.from_config(transformers.AutoConfig.for_model(config["model_type"], **settings)).save_pretrained(folder)


def band(window):
    """Pre-hook of GPT-2's attention: position t sees only those from t - window + 1 on."""
    def hook(module, args, kwargs):
        t = torch.arange(kwargs["hidden_states"].shape[1] if "hidden_states" in kwargs else args[0].shape[1])
        distance = t[:, None] - t
        return args, kwargs | {"attention_mask": ((distance >= 0) & (distance < window))[None, None]}
    return hook


def load(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    config.use_cache = False
    architecture = getattr(transformers, config.architectures[0])
    kind = "eager" if config.model_type.startswith("deberta") else "sdpa"
    model = architecture.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation=kind).eval()
    for block, kind in zip(model.get_submodule(methods.FAMILY[config.model_type]["blocks"]), getattr(config, "attention_layers", [])):
        if kind == "local":
            block.attn.register_forward_pre_hook(band(config.window_size), with_kwargs=True)
    return model


def high_water():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024


def serve(pipe, folder, method, rank, batches, written_by_hand):
    """Sends what the first step finds; then a step, and its seconds, for each message."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    if written_by_hand:
        model = plain.Model(json.loads((folder / "config.json").read_text()), folder / "model.safetensors", rank)
    else:
        model = methods.Adapted(load(folder), method, rank)
    trained = model.trained()
    optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.01, fused=True)
    batches = list(zip(*(load_file(batches)[name].long() for name in ("input_ids", "labels"))))

    def step(ids, labels):
        loss = model.loss(ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    with FlopCounterMode(display=False) as counter:
        loss = step(*batches[0])
    pipe.send({"loss": loss, "flops": counter.get_total_flops(), "trained": sum(p.numel() for p in trained)})
    while pipe.recv():
        start = time.perf_counter()
        step(*batches[1])
        pipe.send(time.perf_counter() - start)
    pipe.send(high_water())
