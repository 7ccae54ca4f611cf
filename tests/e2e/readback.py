#!/usr/bin/env python3
"""Every method, in one layer of two and with norms trained whole: what is written is read back, and does something; and its gradients
through a base in Q8_0 are finite differences.

    readback.py LORACC"""
import pathlib
import sys
import tempfile

import numpy as np
from common import GOLDENS, ROOT, Checks, load, plain, save

MODEL = GOLDENS / "gpt2"
COMBINED = ["prefix_embedding:prefix=3,infix=2 --method lora", "lora:targets=c_attn --method prefix_layer --method bitfit",
            "pissa:targets=down --method houlsby --method prefix_tuning:tokens=3", "vera --method parallel --method prompt_tuning:tokens=4"]
SETTINGS = {"dora": "dora:targets=c_attn", "adapterdrop": "adapterdrop:drop_first=1"}  # for this small model


def methods(loracc, checks):
    """The names in front of the lines of --list-methods."""
    lines = (checks.run(loracc, "--list-methods") or "").splitlines()
    return [line.split()[0] for line in lines if line and line[0].isalpha() and len(line.split()) > 1]


def logits(program, inputs, scratch, checks):
    checks.run(program, "--logits", inputs, scratch / "logits")
    return load(scratch / "logits")["logits"]


def main():
    loracc, checks = sys.argv[1], Checks()
    with tempfile.TemporaryDirectory(prefix="loracc-") as folder:
        scratch = pathlib.Path(folder)
        batches = scratch / "batches"
        save(batches, plain(load(MODEL / "train_batches.safetensors")))
        ids = plain(load(MODEL / "train_batches.safetensors"))["input_ids"]
        save(scratch / "in", {"input_ids": ids[0, :2, :16], "prompt_len": np.array([4, 4], np.int32)})
        compile = [loracc, ROOT / "examples/gpt2.ldl", "--weights", MODEL, "--target", "generic", "--batch", 4, "--length", 60]
        names = methods(loracc, checks)
        checks.that("lora" in names and "houlsby" in names and len(names) > 12, f"{len(names)} methods")
        checks.run(*compile, "-o", scratch / "base")
        base = logits(scratch / "base", scratch / "in", scratch, checks)
        for name in names + COMBINED:
            out = scratch / name.replace(" ", "")
            (scratch / "with").unlink(missing_ok=True)
            checks.run(*compile, "--method", *SETTINGS.get(name, name).split(), "--layers", 1, "--train", "norm", "-o", scratch / "train")
            checks.run(scratch / "train", "--tensors", batches, "--out", out, "--steps", 1, "--lr", 0.01)
            checks.run(*compile, "--with", out, "-o", scratch / "with")
            checks.run(*compile, "--adapter", out, "-o", scratch / "train")
            found = logits(scratch / "with", scratch / "in", scratch, checks)
            same = found.shape == base.shape and np.array_equal(found, base)
            checks.that(np.isfinite(found).all() and not same, f"{name}: is read back")
            if name != "dora":  # whose norms are constants to the gradient
                checks.run(*compile, "--method", *SETTINGS.get(name, name).split(), "--store", "q8_0", "-o", scratch / "train")
                checked = checks.run(scratch / "train", "--tensors", batches, "--check") or ""
                checks.that("tensors checked" in checked, f"{name}: gradients through Q8_0")
    checks.finish()


if __name__ == "__main__":
    main()
