#!/usr/bin/env python3
"""What the storage of frozen weights costs and gives: bytes read and time of a decoded token, perplexity, and the share of an update
that survives it.  Programs take turns; times are medians of their differences.

    store.py LORACC LDL MODEL ADAPTER TEXT      TEXT: a file whose perplexity is taken"""
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

STORES, ROUNDS, TOKENS = ("f32", "bf16", "q8_0"), 5, 48


def run(*argv):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=True).stdout


def seconds(program, tokens):
    began = time.monotonic()
    run(program, "--ids", "1 2 3 4 5 6 7 8", "--max-tokens", tokens)
    return time.monotonic() - began


def survival(text):
    """Of loracc verify's lines, one for each tensor: the mean of the shares that survive."""
    shares = [float(word.rstrip("%")) for line in text.splitlines() if "%" in line for word in line.split() if word.endswith("%")]
    return statistics.fmean(shares) if shares else float("nan")


def main():
    loracc, ldl, model, adapter, text = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        programs, rows = {}, {}
        for store in STORES:
            base, merged = pathlib.Path(folder) / f"{store}-base", pathlib.Path(folder) / store
            run(loracc, ldl, "--weights", model, "--store", store, "--length", 512, "-o", base)
            run(loracc, ldl, "--weights", model, "--store", store, "--length", 512, "--merge", adapter, "-o", merged)
            info, found = json.loads(run(merged, "--info", "--json")), json.loads(run(merged, "--perplexity", text, "--json"))
            programs[store] = merged
            rows[store] = [info["bytes_per_token"] / 1e6, found["perplexity"], survival(run(loracc, "verify", base, merged))]
        times = {store: [] for store in STORES}
        for _ in range(ROUNDS):
            for store, program in programs.items():
                times[store].append((seconds(program, TOKENS + 1) - seconds(program, 1)) / TOKENS)
    print(f"{'store':6} {'MB/token':>9} {'ms/token':>9} {'perplexity':>11} {'update kept':>12}")
    for store, (size, perplexity, kept) in rows.items():
        print(f"{store:6} {size:9.1f} {1e3 * statistics.median(times[store]):9.2f} {perplexity:11.3f} {kept:11.2f} %")


if __name__ == "__main__":
    main()
