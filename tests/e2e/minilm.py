#!/usr/bin/env python3
"""all-MiniLM-L6-v2, a real encoder, against what transformers and PEFT compute with it (tests/data/goldens/minilm).

    minilm.py LORACC FOLDER        FOLDER: where examples/fetch-model keeps models; fetched when it is not there

Checks ids of sentences, states after every layer, sentence embeddings, and of a classifier with LoRA: gradients of two steps,
losses and the adapter of five, logits with the adapter merged and kept beside."""
import json
import pathlib
import sys
import tempfile

import numpy as np
from common import GOLDENS, ROOT, Checks, error, load, plain, save

GOLDEN, LDL = GOLDENS / "minilm", ROOT / "examples/bert.ldl"
STATES, LOGITS, LOSSES, GRADIENTS, TRAINED = 2e-5, 2e-5, 5e-6, 1e-4, 1e-5
STEPS = "--schedule", "constant", "--lr", "1e-3", "--weight-decay", "0.01", "--clip", "0"
CLASSIFIER = "--set", "architectures.0=BertForSequenceClassification"
POOLER = "weight W: [d, d] = \"pooler.dense.weight\"'; weight b: [d] = \"pooler.dense.bias\"; output logits = tanh(x[0] @ W + b);"


def farthest(ours, reference, where=...):
    """Largest absolute difference."""
    return float(np.abs(ours.astype(np.float64) - reference)[where].max()) if ours.shape == reference.shape else np.inf


class MiniLM:
    def __init__(self, loracc, weights, scratch):
        self.loracc, self.weights, self.scratch, self.checks = loracc, weights, scratch, Checks()

    def compile(self, ldl, name, *options, batch=20):
        """A program, or None."""
        program = self.scratch / name
        options = "--weights", self.weights, "--batch", batch, "--length", 64, *options, "-o", program
        return None if self.checks.run(self.loracc, ldl, *options) is None else program

    def logits(self, program, inputs):
        given, out = self.scratch / "in", self.scratch / "out"
        save(given, plain(inputs))
        return np.zeros(0) if program is None or self.checks.run(program, "--logits", given, out) is None else load(out)["logits"]

    def encoder(self, before, output, *options):
        """What a description computes that ends before the first line that begins so, with this output instead."""
        lines = LDL.read_text().splitlines()
        end = next(i for i, line in enumerate(lines) if line.startswith(f"    {before}"))
        ldl = self.scratch / "encoder.ldl"
        ldl.write_text("\n".join(lines[:end] + [output, "}\n"]))
        return self.logits(self.compile(ldl, "encoder", *options), load(GOLDEN / "inputs.safetensors"))

    def sentences(self):
        program = self.compile(LDL, "classify", *CLASSIFIER, "--merge", GOLDEN / "adapter")
        rows = json.loads((GOLDEN / "sentences.json").read_text())
        ids = [[int(i) for i in (self.checks.run(program, "--tokenize", input=row["text"]) or "").split()] for row in rows]
        self.checks.that(ids == [row["ids"] for row in rows], f"ids of {len(rows)} sentences")

    def states(self):
        expected, mask = load(GOLDEN / "expected.safetensors"), load(GOLDEN / "inputs.safetensors")["attention_mask"].astype(bool)
        states = [self.encoder("repeat", "output logits = x;")]
        states += [self.encoder("if masked", "output logits = x;", "--set", f"num_hidden_layers={n + 1}") for n in range(6)]
        self.checks.within(farthest(states[6], expected["last_hidden"], mask), STATES, "states after the last layer")
        states = np.stack(states).astype(np.float64) * mask[None, ..., None]
        # A sum over hundreds of values is as far off as they are together.
        self.checks.within(error(states.sum((2, 3)), expected["hidden_sum"]), STATES, "sums of the states after every layer")
        self.checks.within(error(np.sqrt((states**2).sum((2, 3))), expected["hidden_norm"]), STATES, "their norms")
        self.checks.within(farthest(states[6][:, 0], expected["cls"]), STATES, "states of the first token")
        mean = states[6].sum(1) / mask.sum(1, keepdims=True)
        embedding = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        self.checks.within(farthest(embedding, expected["embedding"]), STATES, "sentence embeddings")
        self.checks.within(farthest(self.encoder("if masked", POOLER), expected["pooler"]), STATES, "pooled states")

    def train(self, program, batches, out, *options):
        save(self.scratch / "batches", plain(batches))
        return self.checks.run(program, "--tensors", self.scratch / "batches", "--out", self.scratch / out, *options)

    def gradients(self, program, batches, step, *options):
        out = self.scratch / "gradients"
        self.train(program, {k: v[step:step + 1] for k, v in batches.items()}, "none", "--gradients", out, *options)
        ours, reference = load(out), load(GOLDEN / f"gradients_{step}.safetensors")
        # B begins as zero, and so do the gradients of A.
        worst = max(error(ours.get(k, np.zeros(0)), g) if g.any() else np.abs(ours[k]).max() for k, g in reference.items())
        self.checks.within(worst, GRADIENTS, f"{len(reference)} gradients of step {step + 1}")

    def lora(self):
        start = "--adapter", GOLDEN / "adapter_start", "--model-dropout", "off"
        program = self.compile(LDL, "train", *CLASSIFIER, *start, batch=16)
        batches, expected = load(GOLDEN / "train_batches.safetensors"), json.loads((GOLDEN / "train.json").read_text())
        self.gradients(program, batches, 0)
        self.train(program, batches, "one", *STEPS, "--steps", 1)
        self.gradients(program, batches, 1, "--init", self.scratch / "one")
        self.train(program, batches, "five", *STEPS, "--steps", expected["steps"], "--metrics", self.scratch / "metrics")
        metrics = [json.loads(line) for line in (self.scratch / "metrics").read_text().splitlines()]
        for key, limit in ("loss", LOSSES), ("grad_norm", GRADIENTS):
            worst = max(abs(m[key] - e) for m, e in zip(metrics, expected[key], strict=True))
            self.checks.within(worst, limit, f"{key} of {expected['steps']} steps")
        ours, reference = (load(folder / "adapter_model.safetensors") for folder in (self.scratch / "five", GOLDEN / "adapter"))
        shapes = [{k: v.shape for k, v in adapter.items()} for adapter in (ours, reference)]
        self.checks.that(shapes[0] == shapes[1], "names and shapes of the adapter")
        self.checks.that(sum(v.size for v in ours.values()) == expected["trainable_parameters"], "number of trained parameters")
        # AdamW moves a value whose gradient is rounding by up to the learning rate: one in a thousand may differ.
        off = np.concatenate([np.abs(ours[k] - reference[k]).ravel() for k in reference])
        self.checks.within(float(np.quantile(off, 0.999)), TRAINED, "adapter after five steps")
        first = {k: v[0] for k, v in batches.items() if k != "labels"}
        expected = load(GOLDEN / "classifier_expected.safetensors")
        for option, key in ("--with", "logits"), ("--merge", "merged_logits"):
            program = self.compile(LDL, "program", *CLASSIFIER, option, GOLDEN / "adapter")
            self.checks.within(farthest(self.logits(program, first), expected[key]), LOGITS, f"logits {option}")


def main():
    folder = pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
        model = MiniLM(sys.argv[1], folder / "all-MiniLM-L6-v2", pathlib.Path(scratch))
        if model.checks.run(ROOT / "examples/fetch-model", folder, "minilm") is not None:
            model.sentences()
            model.states()
            model.lora()
        model.checks.finish()


if __name__ == "__main__":
    main()
