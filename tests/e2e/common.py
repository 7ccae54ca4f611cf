"""Shared by the end-to-end tests: safetensors files, running programs, counting."""
import json
import pathlib
import subprocess
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests/data/goldens"
TYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "I64": np.int64, "U8": np.uint8, "BOOL": np.bool_}


def load(path):
    """The tensors of a safetensors file by name."""
    data = pathlib.Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            raw = data[8 + size + first:8 + size + last]
            tensors[name] = np.frombuffer(raw, TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def save(path, tensors):
    names = {np.dtype(t): n for n, t in TYPES.items()}
    header, blocks, at = {}, [], 0
    for name, value in sorted(tensors.items()):
        value = np.ascontiguousarray(value)
        header[name] = {"dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        blocks.append(value.tobytes())
        at += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))


def plain(tensors):
    """The tensors in the types that programs read: 32 bits."""
    return {name: value.astype(np.float32 if value.dtype.kind == "f" else np.int32) for name, value in tensors.items()}


def case(tensors, name):
    """The tensors `name.*` of a golden file, without that prefix."""
    return {key[len(name) + 1:]: value for key, value in tensors.items() if key.startswith(name + ".")}


def error(ours, reference, where=None):
    """Largest difference, as a share of the largest magnitude of the reference."""
    if ours.shape != reference.shape:
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - reference.astype(np.float64))
    if where is not None:
        difference = difference[where]
    return float(difference.max(initial=0) / max(np.abs(reference).max(initial=0), 1e-30))


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def that(self, condition, what, figure=""):
        self.passed += bool(condition)
        self.failed += not condition
        print(f"{'ok  ' if condition else 'FAIL'} {what} {figure}", flush=True)
        return condition

    def within(self, value, limit, what):
        return self.that(value <= limit, what, f"{value:.1e} (limit {limit:.0e})")

    def run(self, *argv, fails=None, **options):
        """Runs a program; its standard output.  `fails`: the exit status that is expected instead of 0."""
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, errors="replace",
                              timeout=600, **options)
        if done.returncode != (fails or 0):
            self.that(False, " ".join(str(a) for a in argv), f"exit {done.returncode}: {done.stderr.strip()[-300:]}")
            return None
        return done.stderr if fails else done.stdout

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(bool(self.failed) or not self.passed)
