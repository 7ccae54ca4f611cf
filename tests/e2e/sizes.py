#!/usr/bin/env python3
"""Every published size of every description is planned, without weights: as many parameters as were published, and as many of LoRA's.
And the scripts of the paper's tables have settings for every method there is.

    sizes.py LORACC"""
import os
import resource
import sys

from common import ROOT, Checks

os.environ["LORACC"] = sys.argv[1]
sys.path.insert(0, str(ROOT / "examples/paper"))
import published
import restaurants

TARGETS = "q,v", "q,k,v,o", "all-linear"
LORA = {  # r = 8 on each of TARGETS, from the dimensions
    "SmolLM2-135M": (460_800, 921_600, 2_442_240), "SmolLM2-360M": (819_200, 1_638_400, 4_341_760),
    "SmolLM2-1.7B": (1_572_864, 3_145_728, 9_043_968), "LLaMA-7B": (4_194_304, 8_388_608, 19_988_480),
    "Llama-2-70B": (16_384_000, 32_768_000, 103_546_880), "Llama-3-8B": (3_407_872, 6_815_744, 20_971_520),
    "Llama-3.1-405B": (50_577_408, 101_154_816, 311_721_984), "Llama-3.2-1B": (851_968, 1_703_936, 5_636_096),
    "TinyLlama-1.1B": (1_126_400, 2_252_800, 6_307_840), "Qwen2.5-7B": (2_523_136, 5_046_272, 20_185_088),
}


def seconds():
    """Of all programs that have run, on the processor."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def main():
    checks = Checks()
    checks.that(len(restaurants.methods("all")) > 15, "settings for every method")
    before = seconds()
    published.plan("GPT-3 175B", "--lora", "q,v", length=2048)
    checks.within(seconds() - before, 5, "seconds to plan GPT-3 175B")
    for name, (_, _, parameters) in published.MODELS.items():
        total = published.plan(name, "--method", "full")["total"]
        if parameters:
            checks.that(total == parameters, f"{name} has its parameters", f"{total:,} (published {parameters:,})")
        else:
            checks.that(total > 0, f"{name} is planned", f"{total:,}")
        for targets, trained in zip(TARGETS, LORA.get(name, ())):
            ours = published.plan(name, "--lora", targets, "--rank", 8)["trained"]
            checks.that(ours == trained, f"{name}, LoRA on {targets}", f"{ours:,} ({trained:,})")
    checks.finish()


if __name__ == "__main__":
    main()
