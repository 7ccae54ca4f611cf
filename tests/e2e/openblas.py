#!/usr/bin/env python3
"""Programs that leave their products to OpenBLAS: within the limits of our own kernels, and no product of ours in them.

    openblas.py LORACC"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tiny
from common import GOLDENS, Checks, save
from goldens import Model

MIB = 1 << 20
# Grouped heads, fused weights, sizes that fill no vector, relative positions; every matrix adapted, slices, a head trained whole.
CASES = {"llama": ("lora_all_linear",), "gpt2": ("lora_split_qv",), "llama-odd": ("lora_head_saved",), "gpt2-odd": (),
         "bert-mlm": (), "deberta-v3": ("lora_qv",)}


class OpenBlas(Model):
    def compile(self, program, *options, weights=None):
        return super().compile(program, "--gemm", "openblas", *options, weights=weights)


def goldens(loracc, scratch, checks):
    for name, adapters in CASES.items():
        model = OpenBlas(loracc, name, scratch)
        model.checks = checks
        model.base()
        if name in ("llama", "gpt2-odd"):
            model.stores()
        for adapter in adapters:
            model.adapter(GOLDENS / name / "adapters" / adapter)


def larger(loracc, scratch, checks):
    """Sizes that take several tasks, on several threads: the same losses with both, each program's memory as planned."""
    folder = tiny.make(scratch / "model", tiny.CONFIG | {"hidden_size": 256, "intermediate_size": 700})
    ids = np.random.default_rng(0).integers(0, tiny.CONFIG["vocab_size"], (3, 8, 128)).astype(np.int32)
    save(scratch / "batches", {"input_ids": ids, "labels": ids})
    losses = {}
    for products in "own", "openblas":
        program, metrics = scratch / f"train-{products}", scratch / f"{products}.jsonl"
        checks.run(loracc, OpenBlas(loracc, "llama", scratch).ldl, "--weights", folder, "--lora", "all-linear", "--batch", 8, "--length", 128,
                   "--gemm", products, "-o", program)
        info = json.loads(checks.run(program, "--info", "--json", "--threads", 3) or "{}")
        checks.that(info.get("gemm") == products, f"--info says {products}", info.get("openblas_core", ""))
        checks.run(program, "--tensors", scratch / "batches", "--out", scratch / f"adapter-{products}", "--metrics", metrics, "--lr", 0.01, "--threads", 3)
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        losses[products] = np.array([line["loss"] for line in lines])
        used, planned = max(line["rss_bytes"] for line in lines), info.get("planned_bytes", 0)
        sanitized = b"libasan" in program.read_bytes()  # which has memory of its own
        sanitized or checks.that(abs(used - planned) <= max(0.05 * planned, 16 * MIB), f"{products}: memory as planned",
                                 f"{used / MIB:.0f} MiB, planned {planned / MIB:.0f}")
    checks.within(float(np.abs(losses["own"] - losses["openblas"]).max()), 1e-4, f"losses of {len(losses['own'])} steps, own and openblas")


def every_product(loracc, scratch, checks):
    llama = OpenBlas(loracc, "llama", scratch)
    for products in "own", "openblas":
        text = scratch / f"{products}.ll"
        checks.run(loracc, llama.ldl, "--config", llama.folder / "config.json", "--lora", "q,v", "--gemm", products, "--emit", "llvm", "-o", text)
        code = text.read_text()
        ours, theirs = any(f'@{name}' in code for name in ("tile", "block.")), "@cblas_sgemm" in code
        checks.that((ours, theirs) == ((True, False) if products == "own" else (False, True)), f"--gemm {products}: only those products in the code")


def refused(loracc, scratch, checks):
    """A compiler that finds no OpenBLAS, and one that cannot link statically."""
    llama = OpenBlas(loracc, "llama", scratch)
    compilers = {"without": "-lopenblas", "dynamic": "-static-pie"}
    results = {}
    for name, option in compilers.items():
        compiler = scratch / f"{name}-cc"
        compiler.write_text(f'#!/bin/sh\ncase " $* " in *" {option} "*) exit 1 ;; esac\nexec cc "$@"\n')
        compiler.chmod(0o755)
        results[name] = subprocess.run([loracc, llama.ldl, "--weights", llama.folder, "--gemm", "openblas", "-o", scratch / name],
                                       env=os.environ | {"CC": str(compiler)}, capture_output=True, text=True)
    done = results["without"]
    checks.that(done.returncode == 2 and "libopenblas-dev" in done.stderr and done.stderr.count("\n") == 1, "no OpenBLAS: one line, with the package",
                done.stderr.strip())
    left = [p.name for p in scratch.iterdir() if p.name.startswith("without") and p.name != "without-cc"]
    checks.that(not left, "and nothing is left", left)
    checks.that(results["dynamic"].returncode == 0 and checks.run(scratch / "dynamic", "--ids", "1 2 3", "--max-tokens", 4) is not None,
                "a dynamic program where no static one can be linked", results["dynamic"].stderr)
    done = subprocess.run([loracc, llama.ldl, "--weights", llama.folder, "--gemm", "mkl", "-o", scratch / "x"], capture_output=True, text=True)
    checks.that(done.returncode == 2 and "openblas" in done.stderr and done.stderr.count("\n") == 1, "--gemm mkl: one line", done.stderr.strip())


def main():
    loracc, checks = pathlib.Path(sys.argv[1]).resolve(), Checks()
    with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
        for part in goldens, larger, every_product, refused:
            part(loracc, pathlib.Path(scratch), checks)
        checks.finish()


if __name__ == "__main__":
    main()
