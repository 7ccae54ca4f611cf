"""A training step of SmolLM2-135M with LoRA on q and v: ours and PyTorch's in turns, medians, memory, and the roofline of the moment.

    train.py [--assert] [--rounds N] [--batch B] [--length T] [--rank R]      --assert: fail when slower or larger than the bars"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/bench"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
          "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192,
          "rope_theta": 100000.0, "hidden_act": "silu", "tie_word_embeddings": True}
sys.path.insert(0, str(ROOT / "tests/e2e"))
import tiny
from common import save


def needed_flops(batch, length, rank):
    """Of one step: forward and backward products, the causal half of attention, gradients of what is trained only."""
    c, tokens = CONFIG, batch * length
    d, kv = c["hidden_size"], c["hidden_size"] // c["num_attention_heads"] * c["num_key_value_heads"]
    frozen = 2 * d * d + 2 * d * kv + 3 * d * c["intermediate_size"]
    adapters = rank * (d + d) + rank * (d + kv)
    # Below the first layer's adapters nobody asks for a gradient: its q, k, v and everything before.
    backward = frozen * c["num_hidden_layers"] - (d * d + 2 * d * kv)
    products = 2 * tokens * (frozen * c["num_hidden_layers"] + backward + 3 * adapters * c["num_hidden_layers"] + 2 * d * c["vocab_size"])
    attention = 2 * batch * length * (length + 1) / 2 * d * (2 + 5) * c["num_hidden_layers"]
    return products + attention


def peak(threads):
    program = FOLDER / "peak"
    subprocess.run(["cc", "-O3", "-march=native", "-pthread", ROOT / "tests/bench/peak.c", "-o", program], check=True)
    return [float(x) for x in subprocess.run([program, str(threads)], check=True, capture_output=True, text=True).stdout.split()]


def high_water(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024


def best_for_torch():
    """What makes PyTorch fastest: huge pages, a heap that keeps what it freed, and MKL's AVX-512 kernels on any vendor's CPU."""
    library = FOLDER / "mkl.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", library], input="int mkl_serv_intel_cpu_true(void) { return 1; }", text=True,
                   check=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    return environment | {"THP_MEM_ALLOC_ENABLE": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184",
                          "MALLOC_TOP_PAD_": "67108864", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "LD_PRELOAD": str(library)}


class Peer:
    def __init__(self, a):
        config = FOLDER / "model/config.json"
        self.process = subprocess.Popen([sys.executable, ROOT / "tests/bench/peer.py", config, str(a.batch), str(a.length), str(a.rank)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=best_for_torch())
        self.step()

    def step(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def ours(program, a, batches):
    metrics = FOLDER / "metrics.jsonl"
    metrics.unlink(missing_ok=True)
    process = subprocess.Popen([program, "--tensors", batches, "--out", FOLDER / "out", "--metrics", metrics, "--steps", "3"],
                               stderr=subprocess.PIPE, text=True)
    started, first, memory = time.perf_counter(), None, 0
    while process.poll() is None:
        try:
            memory = max(memory, high_water(process.pid) or 0)
        except OSError:
            pass
        time.sleep(0.01)
    if process.returncode:
        sys.exit(process.stderr.read())
    seconds = [json.loads(line)["seconds"] for line in metrics.read_text().splitlines()]
    to_first = time.perf_counter() - started - sum(seconds)
    return seconds[1:], memory, to_first


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run")
    parser.add_argument("--assert", dest="check", action="store_true")
    for name, value in ("rounds", 3), ("batch", 4), ("length", 512), ("rank", 8):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "model").exists():
        tiny.make(FOLDER / "model", CONFIG)
    batches, program = FOLDER / "batches", FOLDER / "train"
    ids = np.random.default_rng(0).integers(0, CONFIG["vocab_size"], (3, a.batch, a.length)).astype(np.int32)
    save(batches, {"input_ids": ids, "labels": ids})
    start = time.perf_counter()
    subprocess.run([ROOT / "build/release/loracc", ROOT / "examples/llama.ldl", "--weights", FOLDER / "model", "--lora", "q,v", "--rank", str(a.rank),
                    "--batch", str(a.batch), "--length", str(a.length), "-o", program], check=True, stderr=subprocess.DEVNULL)
    compiled = time.perf_counter() - start
    info = json.loads(subprocess.run([program, "--info", "--json"], check=True, capture_output=True, text=True).stdout)
    peer, mine, theirs, memory, begins = Peer(a), [], [], 0, []
    threads = len(os.sched_getaffinity(0))
    peaks = []
    for _ in range(a.rounds):
        peaks.append(peak(threads))
        seconds, used, to_first = ours(program, a, batches)
        mine += seconds
        begins.append(to_first)
        memory = max(memory, used)
        theirs += [peer.step() for _ in range(2)]
    peer_memory = high_water(peer.process.pid)
    peer.process.stdin.close()
    step, other = statistics.median(mine), statistics.median(theirs)
    flops, best = needed_flops(a.batch, a.length, a.rank), statistics.median(p[0] for p in peaks)
    planned = info["planned_bytes"] / 2**20
    print(f"SmolLM2-135M, LoRA r={a.rank} on q and v, batch {a.batch} x {a.length}, f32, {threads} threads, tier {info['tier']}")
    print(f"  ours     {step:.2f} s a step, {memory:.0f} MiB (planned {planned:.0f}), compiled in {compiled:.1f} s, first step after {statistics.median(begins):.1f} s")
    print(f"  PyTorch  {other:.2f} s a step, {peer_memory:.0f} MiB")
    print(f"  ratio    {other / step:.2f} times as fast, {memory / peer_memory:.2f} of the memory")
    print(f"  roofline {best:.0f} GFLOP/s f32, {statistics.median(p[1] for p in peaks):.0f} GB/s; a step needs {flops / 1e9:.0f} GFLOP: ours runs at "
          f"{100 * flops / step / 1e9 / best:.0f} %, PyTorch at {100 * flops / other / 1e9 / best:.0f} %")
    if a.check and (other < step or memory > peer_memory / 2 or abs(memory - planned) > max(0.05 * planned, 16)):
        sys.exit("below the bar: at least PyTorch's speed, at most half of its memory, planned memory within 5 %")


if __name__ == "__main__":
    main()
