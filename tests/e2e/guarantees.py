#!/usr/bin/env python3
"""What is promised beyond numbers: the same bits whatever the machine, resuming, merging at no cost, memory as planned, and a
compiler that works where it is installed.

    guarantees.py LORACC BUILD_FOLDER"""
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import tiny
from common import ROOT, Checks, load, plain, save

MIB = 1 << 20
TIER_FLAGS = {"avx2": "avx2", "avx512": "avx512f"}  # what /proc/cpuinfo says of a CPU that has it


class Test:
    def __init__(self, loracc, scratch):
        self.loracc, self.scratch, self.checks = loracc, scratch, Checks()
        self.model = tiny.make(scratch / "model")
        self.data = tiny.write_rows(scratch / "train.jsonl", 60)
        self.held_out = tiny.write_rows(scratch / "valid.jsonl", 10, seed=8)
        self.ldl = ROOT / "examples/llama.ldl"

    def compile(self, name, *options):
        self.checks.run(self.loracc, self.ldl, "--weights", self.model, *options, "-o", self.scratch / name)
        return self.scratch / name

    def command(self, out, *options):
        return [str(a) for a in (self.train, "--data", self.data, "--steps", 12, "--lr", 0.01, "--warmup", 2, "--seed", 3, "--batch",
                                 3, "--accumulate", 2, "--out", self.scratch / out, *options)]

    def adapter(self, out):
        path = self.scratch / out / "adapter_model.safetensors"
        return path.read_bytes() if path.exists() else b"nothing"

    def same_bits(self):
        """Of rank 1, too: rows of one column lie side by side in memory, of which the threads' tasks have blocks."""
        self.same_adapter("rank 1 ", "--rank", 1, "--method", "pissa", "--batch", 3)
        self.same_adapter("", "--rank", 4, "--dropout", 0.1)

    def same_adapter(self, which, *options):
        self.train = self.compile("train", "--lora", "q,v", "--length", 128, *options)
        self.checks.run(*self.command("one", "--threads", 1))
        self.reference = self.adapter("one")
        self.checks.that(len(self.reference) > 1000, "an adapter is written")
        tiers = [line.split()[0] for line in (self.checks.run(self.loracc, "--list-targets") or "").splitlines()]
        flags = {"", *pathlib.Path("/proc/cpuinfo").read_text().split()}
        settings = [("--threads", n) for n in (2, 3, 7)] + [("--tier", t) for t in tiers]
        for setting in settings:
            what = which + "{} {}".format(*setting)
            done = subprocess.run(self.command(what, *setting), capture_output=True, text=True)
            if TIER_FLAGS.get(setting[1], "") not in flags:
                self.checks.that(done.returncode and "this machine does not support it" in done.stderr, f"{what} is refused", done.stderr[-200:])
                continue
            self.checks.that(self.adapter(what) == self.reference, f"the same adapter with {what}", done.stderr[-200:] if done.returncode else "")

    def resume(self, name):
        """A run that was killed before its first checkpoint starts again."""
        return ("--resume",) if (self.scratch / name / "training_state.safetensors").exists() else ()

    def wait_for_step(self, process, metrics, step):
        while process.poll() is None:
            if metrics.exists() and len(metrics.read_text().splitlines()) >= step:
                return
            time.sleep(0.005)

    def stopped_runs(self):
        """Killed and interrupted runs that are resumed end at the same bits; so do those that were only long ago."""
        dice = random.Random()
        for name, number, times in ("killed", signal.SIGKILL, 4), ("interrupted", signal.SIGINT, 2):
            for i in range(times):
                metrics = self.scratch / f"{name}.metrics"
                resume = self.resume(name)
                done = len(metrics.read_text().splitlines()) if resume else 0
                more = ("--save-every", 1, "--metrics", metrics, "--threads", dice.randint(1, 3))
                process = subprocess.Popen(self.command(name, *more, *resume), stderr=subprocess.DEVNULL)
                self.wait_for_step(process, metrics, done + dice.randint(1, 3))
                time.sleep(dice.random() * 0.01)
                process.send_signal(number)
                status = process.wait()
                if number == signal.SIGINT:
                    self.checks.that(status in (0, 130), "an interrupted run ends in order", f"exit {status}")
            self.checks.run(*self.command(name, "--save-every", 5, *self.resume(name)))
            self.checks.that(self.adapter(name) == self.reference, f"{name} {times} times and resumed: the same adapter")

    def packing(self):
        """The same documents, one in a row and several in a row."""
        dice = np.random.default_rng(5)
        lengths = [17, 40, 3, 33, 64, 20]
        documents = [dice.integers(0, 256, n).astype(np.int32) for n in lengths]
        groups = [[[0], [1], [2], [3], [4], [5]], [[0, 1, 2], [3, 4], [5]], [[0, 1, 2, 3], [4, 5]]]
        results = []
        for i, rows in enumerate(groups):
            width = max(sum(lengths[d] for d in row) for row in rows)
            fields = {k: np.zeros((len(rows), width), np.int32) for k in ("input_ids", "labels", "attention_mask", "segment_ids")}
            for r, row in enumerate(rows):
                at = 0
                for number, d in enumerate(row):
                    place = (r, slice(at, at + lengths[d]))
                    fields["input_ids"][place] = fields["labels"][place] = documents[d]
                    fields["attention_mask"][place], fields["segment_ids"][place] = 1, number
                    at += lengths[d]
            fields = {k: np.stack([v] * 3) for k, v in fields.items()}
            save(self.scratch / "batches", plain(fields))
            out = f"packed{i}"
            program = self.compile("packed", "--lora", "q,v", "--rank", 4, "--dropout", 0.1, "--length", 192, "--batch", 6)
            self.checks.run(program, "--tensors", self.scratch / "batches", "--steps", 3, "--lr", 0.01, "--out", self.scratch / out)
            results.append(self.adapter(out))
        self.checks.that(len(results[0]) > 1000 and all(r == results[0] for r in results), "packed in three ways: the same adapter")

    def merging(self):
        base, merged = self.compile("base"), self.compile("merged", "--merge", self.scratch / "one")
        beside = self.compile("beside", "--with", self.scratch / "one")
        out = self.checks.run(self.loracc, "verify", base, merged) or ""
        print(out, end="")
        self.checks.that("identical" in out, "base and merged programs are identical but for their weights")
        for section in ".text", ".rodata", ".data":
            parts = [self.section(program, section) for program in (base, merged)]
            self.checks.that(parts[0] == parts[1] and parts[0], f"objcopy finds the same {section}")
        self.checks.that(self.checks.run(self.loracc, "verify", base, beside, fails=1) is not None, "verify fails where an adapter was kept beside")
        self.checks.that(self.checks.run(self.loracc, "verify", base, self.train, fails=2), "verify fails for a training program")
        tokens = dict(input_ids=np.arange(40, dtype=np.int32).reshape(2, 20))
        save(self.scratch / "in", tokens)
        results = {}
        for program in base, merged, beside:
            self.checks.run(program, "--logits", self.scratch / "in", self.scratch / "out")
            results[program.name] = load(self.scratch / "out")["logits"].astype(float)
        size = np.abs(results["merged"]).max()
        self.checks.within(np.abs(results["merged"] - results["beside"]).max() / size, 1e-5, "merged = kept beside")
        self.checks.that(np.abs(results["merged"] - results["base"]).max() > 1e-3 * size, "merged differs from base")

    def decoding(self):
        """Greedy text with the cache = the largest logit of the whole sequence, computed again for every token."""
        base = self.compile("base")
        ids = [65, 66, 67, 32]
        for _ in range(12):
            save(self.scratch / "in", {"input_ids": np.array([ids], np.int32)})
            self.checks.run(base, "--logits", self.scratch / "in", self.scratch / "out")
            ids.append(int(load(self.scratch / "out")["logits"][0, -1].argmax()))
        out = self.checks.run(base, "--ids", "65 66 67 32", "--max-tokens", 12, "--temperature", 0) or ""
        self.checks.that([int(i) for i in out.split()] == ids[4:][:len(out.split())] and out.split(), "cached decoding = computed again")
        texts = [self.checks.run(base, "tensor graph", "--max-tokens", 20, "--temperature", 0.8, "--seed", s) for s in (1, 1, 2)]
        self.checks.that(texts[0] == texts[1] != texts[2], "text depends on the seed and on nothing else")
        seconds = json.loads(self.checks.run(base, "--time", 3, "--length", 5, "--batch", 2, "--json") or "[]")
        self.checks.that(len(seconds) == 3 and min(seconds) > 0, "a forward pass is timed", str(seconds))

    def peak(self, command):
        """Most memory a program has held.  Read from /proc: what wait4 tells includes the Python that started it."""
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                peak = max([peak] + [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")])
            except OSError:
                pass
            time.sleep(0.001)
        return peak if process.returncode == 0 else 0

    def memory(self):
        for program, options in (self.train, self.command("memory")[1:]), (self.scratch / "base", ["tensor", "--max-tokens", "120"]):
            info = json.loads(self.checks.run(program, "--info", "--json") or "{}")
            planned, used = info["planned_bytes"], self.peak([program, *options])
            self.checks.that(used and abs(used - planned) <= max(0.05 * planned, 16 * MIB), f"{program.name}: memory as planned",
                             f"{used / MIB:.0f} MiB, planned {planned / MIB:.0f}")

    def section(self, program, name):
        part = self.scratch / "section"
        subprocess.run(["objcopy", "-O", "binary", "--only-section", name, program, part], check=True)
        return part.read_bytes()

    def depth(self):
        """Code does not grow with depth, dropouts included: each layer's are drawn apart."""
        sizes = []
        for layers in 6, 40:
            model = tiny.make(self.scratch / f"deep{layers}", tiny.CONFIG | {"num_hidden_layers": layers})
            program = self.scratch / f"deep{layers}.o"
            self.checks.run(self.loracc, self.ldl, "--weights", model, "--lora", "q,v", "--rank", 4, "--dropout", 0.1, "--emit", "object", "-o", program)
            sizes.append(len(self.section(program, ".text")))
        self.checks.that(sizes[0] == sizes[1] > 0, "as much code for 40 layers as for 6", f"{sizes} bytes")

    def outputs(self):
        metrics = self.scratch / "metrics.jsonl"
        self.checks.run(*self.command("outputs", "--validation", self.held_out, "--eval-every", 4, "--metrics", metrics))
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        losses, held_out = ([line[k] for line in lines if k in line] for k in ("loss", "validation_loss"))
        self.checks.that(len(losses) == 12 and len(held_out) >= 4, "metrics of every step and evaluation", f"{len(losses)}, {len(held_out)}")
        self.checks.that(held_out[-1] < held_out[0], "the held-out loss falls", f"{held_out[0]:.3f} to {held_out[-1]:.3f}")
        folder = self.scratch / "outputs"
        config = json.loads((folder / "adapter_config.json").read_text())
        self.checks.that(config["peft_type"] == "LORA" and config["r"] == 4, "an adapter_config.json as PEFT has it")
        self.checks.that((folder / "best/adapter_model.safetensors").exists(), "the best adapter is kept")

    def installed(self, build):
        prefix = self.scratch / "usr"
        self.checks.run("cmake", "--install", build, "--prefix", prefix)
        elsewhere = self.scratch / "elsewhere"
        elsewhere.mkdir()
        (prefix / "bin/loracc").exists() and self.checks.run(prefix / "bin/loracc", prefix / "share/loracc/examples/llama.ldl", "--weights",
                                                             self.model, "-o", "program", cwd=elsewhere, env={"PATH": "/usr/bin:/bin"})
        self.checks.that(self.checks.run("./program", "tensor", "--max-tokens", 4, cwd=elsewhere) is not None, "installed: compiles and runs")


def main():
    loracc, build = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
        test = Test(loracc, pathlib.Path(scratch))
        for part in test.same_bits, test.stopped_runs, test.packing, test.merging, test.decoding, test.memory, test.depth, test.outputs:
            part()
        test.installed(build)
        test.checks.finish()


if __name__ == "__main__":
    main()
