#!/usr/bin/env python3
"""One small model against reference numbers made by PyTorch and PEFT in double precision (tests/data/goldens).

    goldens.py LORACC MODEL [ADAPTER...]        MODEL: a folder of tests/data/goldens, or elsewhere; ADAPTER: folders, only these are compared

Checks losses, logits, greedy text, packing, storage variants, and for every adapter: loss and gradients, ten optimizer steps and the
adapter they write, logits with the adapter merged and kept beside."""
import json
import pathlib
import sys
import tempfile

import numpy as np
from common import GOLDENS, ROOT, Checks, case, error, load, plain, save

LOGITS, GRADIENTS, TRAINED, LOSS = 3e-5, 5e-5, 3e-4, 1e-4


def family(config):
    """The description in examples/ of a config.json."""
    named = {"mistral": "llama", "qwen2": "llama", "qwen3": "llama", "gemma2": "gemma", "gemma3_text": "gemma", "gptj": "gpt-j",
             "cohere2": "cohere"}
    kind = named.get(config["model_type"], config["model_type"].replace("_", "-"))
    return "gpt3" if "attention_layers" in config else kind


def compared(reference, inputs):
    """Which logits mean something: not those at padding.  Prompt methods put rows in front, or around the prompt."""
    if reference.ndim < 3 or "attention_mask" not in inputs:
        return None
    mask = inputs["attention_mask"].astype(bool)
    return np.concatenate([np.ones((len(mask), reference.shape[1] - mask.shape[1]), bool), mask], axis=1)


class Model:
    def __init__(self, loracc, name, scratch):
        self.loracc, self.folder, self.scratch, self.checks = loracc, GOLDENS / name, scratch, Checks()
        own, config = self.folder / "model.ldl", json.loads((self.folder / "config.json").read_text())
        self.ldl = own if own.exists() else ROOT / "examples" / f"{family(config)}.ldl"
        self.inputs, self.expected = load(self.folder / "inputs.safetensors"), load(self.folder / "expected.safetensors")
        self.relative = config.get("relative_attention", False)
        longest = max(v.shape[1] for k, v in self.inputs.items() if k.endswith("input_ids"))
        self.options = ["--batch", 4, "--length", longest + 32]

    def command(self, program, *options, weights=None):
        return (self.loracc, self.ldl, "--weights", weights or self.folder, *self.options, *options, "-o", self.scratch / program)

    def compile(self, program, *options, weights=None):
        return self.checks.run(*self.command(program, *options, weights=weights)) is not None

    def logits(self, program, inputs):
        save(self.scratch / "in", plain(inputs))
        if self.checks.run(self.scratch / program, "--logits", self.scratch / "in", self.scratch / "out") is None:
            return np.zeros(0)
        return load(self.scratch / "out")["logits"]

    def compare_logits(self, what, program, inputs, reference, limit=LOGITS):
        self.checks.within(error(self.logits(program, inputs), reference, compared(reference, inputs)), limit, what)

    def base(self):
        if not self.compile("base"):
            return
        # All instruction sets give the same bits (guarantees.py): the other programs carry only the best one here.
        self.options += ["--target", json.loads(self.checks.run(self.scratch / "base", "--info", "--json"))["tier"]]
        for name in "plain", "padded", "single":
            self.compare_logits(f"{name} logits", "base", case(self.inputs, name), self.expected[f"{name}.logits"])
        if "greedy.prompt" in self.inputs:
            prompt = " ".join(map(str, self.inputs["greedy.prompt"][0]))
            out = self.checks.run(self.scratch / "base", "--ids", prompt, "--max-tokens", 24, "--temperature", 0) or ""
            self.checks.that(out.split() == [str(i) for i in self.expected["greedy.tokens"][0]], "greedy continuation")
        if "packed.logits" in self.expected:
            packed = case(self.inputs, "packed")
            self.compare_logits("packed documents = each alone", "base", packed, self.expected["packed.logits"])

    def losses(self):
        if not self.compile("train", "--method", "full"):
            return
        for name in "plain", "padded", "packed", "single":
            if f"{name}.loss" in self.expected:
                ours = self.loss_and_gradients(case(self.inputs, name))
                self.checks.within(abs(float(ours["loss"]) - float(self.expected[f"{name}.loss"])), LOSS, f"{name} loss")

    def shortest(self):
        """A program for a few tokens computes only those rows of tables of relative positions that these need."""
        batch, found = case(self.inputs, "single"), []
        count = batch["input_ids"].shape[1]
        for length in count + 32, count:
            if not self.compile("base", "--length", length) or not self.compile("train", "--method", "full", "--length", length):
                return
            self.compare_logits(f"length {length}: logits", "base", batch, self.expected["single.logits"])
            found.append(self.loss_and_gradients(batch))
        largest = max(np.abs(g).max() for g in found[0].values())
        worst = max(error(found[1].get(k, np.zeros(0)), g) for k, g in found[0].items() if np.abs(g).max() > 1e-6 * largest)
        self.checks.within(worst, GRADIENTS, f"length {count}: {len(found[0])} gradients")

    def loss_and_gradients(self, batch, *options):
        """What the training program finds for one batch; with --accumulate for more, on the first axis."""
        save(self.scratch / "batch", plain(batch if options else {k: v[None] for k, v in batch.items()}))
        done = self.checks.run(self.scratch / "train", "--tensors", self.scratch / "batch", *options, "--gradients", self.scratch / "g")
        return {"loss": np.inf} if done is None else load(self.scratch / "g")

    def variants(self):
        """The same checkpoint in other forms."""
        folder = self.folder / "variants"
        plain = case(self.inputs, "plain")
        for path in sorted(folder.glob("model.*.safetensors")) + sorted(p for p in folder.glob("sharded") if p.is_dir()):
            kind = path.name.split(".")[1] if path.is_file() else path.name
            weights = self.scratch / f"variant-{kind}"
            weights.mkdir()
            for file in path.iterdir() if path.is_dir() else [path]:
                target = weights / ("model.safetensors" if path.is_file() else file.name)
                target.write_bytes(file.read_bytes())
            (weights / "config.json").write_bytes((self.folder / "config.json").read_bytes())
            reference = self.expected["plain.logits"]
            if kind in ("f16", "bf16"):
                reference = load(folder / "expected.safetensors")[f"{kind}.plain.logits"]
            if self.compile("variant", weights=weights):
                self.compare_logits(f"checkpoint as {kind}", "variant", plain, reference)
        if (folder / "config.v4.json").exists():
            weights = self.scratch / "variant-v4"
            weights.mkdir()
            (weights / "config.json").write_bytes((folder / "config.v4.json").read_bytes())
            (weights / "model.safetensors").write_bytes((self.folder / "model.safetensors").read_bytes())
            if self.compile("variant", weights=weights):
                self.compare_logits("config of transformers 4", "variant", plain, self.expected["plain.logits"])

    def stores(self):
        """Narrower storage of the weights: as far off as the rounding of the weights makes it, not more."""
        for store, limit in ("bf16", 5e-2), ("q8_0", 1e-1):
            if self.compile("stored", "--store", store):
                self.compare_logits(f"logits with --store {store}", "stored", case(self.inputs, "plain"),
                                    self.expected["plain.logits"], limit)

    def adapter(self, folder):
        name = folder.name
        expected, given = load(folder / "expected.safetensors"), case(self.inputs, "adapter")
        settings = folder / "train/train.json"
        s = json.loads(settings.read_text()) if settings.exists() else {}
        frozen_a = ("--method", "lora-fa") if s.get("freeze") == "lora_A" else ()
        gradients = {k: g for k, g in case(expected, "grad").items() if not (frozen_a and "lora_A" in k)}
        # The exact gradient of a key's bias is zero, ours is rounding, which Adam amplifies.
        largest = max((np.abs(g).max() for g in gradients.values()), default=1)
        gradients = {k: g for k, g in gradients.items() if np.abs(g).max() > 1e-6 * largest}
        if self.compile("train", "--adapter", folder, *frozen_a):
            self.gradients(name, expected, given, gradients)
            if s.get("optimizer") == "adamw":
                self.ten_steps(name, folder, s, gradients)
        for option, key in ("--merge", "merged_logits"), ("--with", "logits"):
            if key in expected and self.compile("program", option, folder):
                self.compare_logits(f"{name}: logits {option}", "program", given, expected[key])

    def gradients(self, name, expected, given, reference):
        ours = self.loss_and_gradients(given)
        if reference:
            worst = max(error(ours.get(k, np.zeros(0)), g) for k, g in reference.items())
            self.checks.within(worst, GRADIENTS, f"{name}: {len(reference)} gradients")
        if "loss" in expected:
            self.checks.within(abs(float(ours["loss"]) - float(expected["loss"])), LOSS, f"{name}: loss")

    def ten_steps(self, name, folder, s, reference):
        save(self.scratch / "batches", plain(load(self.folder / "train_batches.safetensors")))
        out = self.scratch / f"out-{name}"
        ratio = ("--lr-ratio", s["lr_ratio"]) if s.get("lr_ratio") else ()
        if self.checks.run(self.scratch / "train", "--tensors", self.scratch / "batches", "--steps", s["steps"], "--lr", s["lr"],
                           "--schedule", "linear", "--warmup", s["warmup_steps"], "--weight-decay", s["weight_decay"], "--clip",
                           s["clip"], "--out", out, "--metrics", self.scratch / "m", *ratio) is None:
            return
        ours, after = load(out / "adapter_model.safetensors"), load(folder / "train/adapter_model.safetensors")
        # PEFT also writes the base's own table beside an embedding it calls embed_tokens.
        shapes = {k: v.shape for k, v in after.items() if not k.endswith("embed_tokens.base_layer.weight")}
        self.checks.that({k: v.shape for k, v in ours.items()} == shapes, f"{name}: names and shapes of the adapter")
        worst, largest = 0, max((np.abs(g).max() for g in reference.values()), default=1)
        for key in set(reference) & set(ours):
            trained = after[key]
            if key.endswith("bias"):  # that of a key has gradients of zero where nothing rotates it
                trained = np.where(np.abs(reference[key]) > 1e-6 * largest, trained, ours[key])
            worst = max(worst, error(ours[key], trained))
        self.checks.within(worst, TRAINED, f"{name}: adapter after ten steps")
        losses = [json.loads(line)["loss"] for line in (self.scratch / "m").read_text().splitlines()]
        self.checks.within(max(abs(a - b) for a, b in zip(losses, s["losses"], strict=True)), LOSS, f"{name}: losses")

    def accumulation(self):
        """Batches that are accumulated give the gradient of the one large batch, weighted by their targets."""
        folder = self.folder / "accumulation"
        if not folder.exists():
            return
        s = json.loads((folder / "accumulation.json").read_text())
        inputs, expected = load(folder / "inputs.safetensors"), load(folder / "expected.safetensors")
        inputs = {k.split(".")[-1]: v for k, v in inputs.items()}
        if not self.compile("train", "--adapter", self.folder / "adapters" / s["adapter"]):
            return
        reference = {k.removeprefix("grad."): v for k, v in expected.items() if "lora" in k}
        micro = {k: np.stack([v[part] for part in s["microbatches"]]) for k, v in inputs.items() if v.ndim}
        for what, batch, options in ("large batch", inputs, ()), ("accumulated", micro, ("--accumulate", 2)):
            ours = self.loss_and_gradients(batch, *options)
            worst = max(error(ours.get(k, np.zeros(0)), g) for k, g in reference.items())
            self.checks.within(worst, GRADIENTS, f"accumulation: {what}")
            self.checks.within(abs(float(ours["loss"]) - s["loss"]), LOSS, f"accumulation: loss of the {what}")


def main():
    loracc, name = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
        model = Model(loracc, name, pathlib.Path(scratch))
        only = [pathlib.Path(a).resolve() for a in sys.argv[3:]]
        if not only:
            model.base()
            model.losses()
            model.variants()
            model.stores()
            model.accumulation()
            if model.relative:
                model.shortest()
        for folder in only or sorted((model.folder / "adapters").iterdir()):
            model.adapter(folder)
        model.checks.finish()


if __name__ == "__main__":
    main()
