"""SmolLM2 on E2E's restaurants, for generation, sizes and rank: every run that is done is kept, and not made again."""
import json
import os
import re
import shutil
import sys

import paperlib as lib

LENGTH = 160  # tokens of a row, the learned ones before it and the answer
MOST = 64     # tokens of an answer, as the paper has it

# Each method: its options, their learning rate, its usual size (about half a million parameters, where it can be), other sizes.
METHODS = {
    "full": ("--method full", 2e-4, None, ()),
    "top_layers": ("--method top_layers:layers={}", 1e-3, 2, (1, 4)),
    "lora": ("--lora q,v --rank {}", 4e-3, 8, (1, 64)),
    "rslora": ("--lora q,v --rank {} --method lora:rslora=1", 2e-3, 8, (1, 64)),
    "dora": ("--lora q,v --rank {} --method lora:dora=1", 4e-3, 8, (1, 64)),
    "pissa": ("--lora q,v --rank {} --method pissa", 1e-3, 8, (1, 64)),
    "olora": ("--lora q,v --rank {} --method olora", 1e-3, 8, (1, 64)),
    "lora-fa": ("--lora q,v --rank {} --method lora:freeze_a=1", 1e-2, 8, (1, 64)),
    "content_lora": ("--method content_lora:r={}", 4e-3, 8, ()),
    "vera": ("--method vera:r={}", 5e-2, 256, (16, 1024)),
    "ia3": ("--method ia3", 2e-2, None, ()),
    "houlsby": ("--method houlsby:bottleneck={}", 2e-3, 8, (1, 64)),
    "pfeiffer": ("--method pfeiffer:bottleneck={}", 2e-3, 16, (1, 64)),
    "adapterdrop": ("--method adapterdrop:bottleneck={}", 2e-3, 16, (1, 64)),
    "lin": ("--method lin:bottleneck={}", 2e-3, 16, (1, 64)),
    "parallel": ("--method parallel:bottleneck={}", 2e-3, 16, (1, 64)),
    "prefix_embedding": ("--method prefix_embedding:prefix={}", 1e-1, 8, (2, 32)),
    "prefix_layer": ("--method prefix_layer:prefix={}", 2e-3, 8, (2, 32)),
    "prefix_tuning": ("--method prefix_tuning:tokens={}", 1e-1, 20, (4, 40)),
    "prompt_tuning": ("--method prompt_tuning:tokens={}", 1e-1, 20, (4, 40)),
}
UNUSABLE = {"bitfit": "SmolLM2 has no biases"}


def arguments(description, **more):
    """The command line of the scripts that train here."""
    a = lib.arguments(description, seeds=0, steps=60, rows=8, held_out=50, **more)
    if a.quick:
        a.steps = a.rows = a.held_out = 2
    return a


def setting(name, size=None):
    """Options and learning rate of a method, of its usual size or another."""
    options, rate, usual, _ = METHODS[name]
    return options.format(size or usual), rate


def methods(names):
    """The methods of a list "lora,ia3", or all that the compiler has and this model can be trained with."""
    if names == "all":
        lines = lib.loracc("--list-methods").splitlines()
        asked = [line.split()[0] for line in lines if not line.startswith(" ") and line.split()[0] not in UNUSABLE]
    else:
        asked = names.split(",")
    unknown = [name for name in asked if name not in METHODS]
    if unknown:
        sys.exit(f"no settings for {', '.join(unknown)}; there are some for {', '.join(METHODS)}")
    return asked


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def data():
    """The folder with the data; made from the tables in the folder LORACC_E2E, or from downloaded ones."""
    out, tables = lib.BUILD / "restaurants/data", os.environ.get("LORACC_E2E")
    if not (out / "test_references.jsonl").exists():
        lib.run(lib.EXAMPLES / "data/e2e_restaurants.py", out, *[tables] * bool(tables))
    return out


def first_of_each_meaning(rows):
    return list({row["prompt"]: row for row in reversed(rows)}.values())[::-1]


class Runs:
    """Training runs of one budget: so many steps of so many rows."""

    def __init__(self, a):
        self.steps, self.rows, self.threads = a.steps, a.rows, a.threads
        self.data, self.model = data(), lib.smollm2()
        valid = first_of_each_meaning(read(self.data / "valid.jsonl"))[:a.held_out]
        self.held_out = self.data / f"valid{len(valid)}.jsonl"
        self.held_out.write_text("".join(json.dumps(row) + "\n" for row in valid))
        self.budget = f"{a.steps} steps of {a.rows} rows, held-out loss on {len(valid)} rows"

    def folder(self, options, rate, seed):
        name = re.sub(r"[^A-Za-z0-9.]+", "-", options).strip("-")
        return lib.BUILD / f"restaurants/{self.steps}x{self.rows}-{self.held_out.stem}/{name}-lr{rate:g}-seed{seed}"

    def compile(self, program, *options, batch=1):
        return lib.compiled("llama", program, "--weights", self.model, "--batch", batch, "--length", LENGTH, *options)

    def train(self, options, rate, seed=0):
        """What lib.train says of a run, the loss of the base (base_loss), and the folder with the adapter (adapter)."""
        folder = self.folder(options, rate, seed)
        kept = folder / "figures.json"
        if not kept.exists():
            print(f"training {folder.name}", file=sys.stderr, flush=True)
            made = self.compile(folder / "train", *options.split(), batch=self.rows)
            figures = lib.train(made, folder / "adapter", "--data", self.data / "train.jsonl", "--validation", self.held_out,
                                "--steps", self.steps, "--warmup", self.steps // 10, "--lr", rate, "--seed", seed,
                                "--threads", self.threads)
            figures["threads"], figures["base_loss"] = self.threads, read(folder / "adapter.jsonl")[0]["validation_loss"]
            shutil.rmtree(folder / "adapter/best", ignore_errors=True)
            for path in folder / "adapter/training_state.safetensors", folder / "train":
                path.unlink(missing_ok=True)
            kept.write_text(json.dumps(figures))
        return json.loads(kept.read_text()) | {"adapter": folder / "adapter"}

    def answers(self, prompts, adapter=None):
        """The program's greedy answers to the prompts, each its first line, with an adapter or without."""
        folder = adapter.parent if adapter else lib.BUILD / "restaurants/base"
        kept = folder / "answers.json"
        known = json.loads(kept.read_text()) if kept.exists() else {}
        program = folder / "answer"
        for prompt in prompts:
            if prompt in known:
                continue
            if not program.exists():
                print(f"answering {folder.name}", file=sys.stderr, flush=True)
                self.compile(program, *["--with", adapter] if adapter else [])
            answer = lib.run(program, "--max-tokens", MOST, "--stop", "\n", "--threads", self.threads, prompt)
            known[prompt] = answer.strip()
            kept.write_text(json.dumps(known))
        program.unlink(missing_ok=True)
        return [known[prompt] for prompt in prompts]
