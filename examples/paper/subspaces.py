"""What low-rank updates have in common with each other and with the weights they change: the LoRA paper's sections 7.2 and 7.3.

Adapters are folders in PEFT's format.  A is [r, in], B is [out, r], the update is scale B A, added to a weight [out, in]."""
import json
import pathlib
import re
import sys

import numpy as np
import paperlib

sys.path.append(str(paperlib.ROOT / "tests/e2e"))
from common import load

PREFIX = "base_model.model."


def adapter(folder):
    """Module -> A, B and scale, of each module with LoRA."""
    folder = pathlib.Path(folder)
    config, tensors = json.loads((folder / "adapter_config.json").read_text()), load(folder / "adapter_model.safetensors")
    found, alphas = {}, config.get("alpha_pattern") or {}
    for name, a in tensors.items():
        match = re.fullmatch(re.escape(PREFIX) + r"(.*)\.lora_A\.weight", name)
        if match:
            alpha = next((v for key, v in alphas.items() if re.fullmatch(rf"(.*\.)?({key})", match[1])), config["lora_alpha"])
            rank = len(a) ** 0.5 if config.get("use_rslora") else len(a)
            found[match[1]] = a.astype(float), tensors[name.replace(".lora_A.", ".lora_B.")].astype(float), alpha / rank
    if not found:
        sys.exit(f"{folder}: no LoRA adapter in PEFT's format")
    return found


def update(a, b, scale):
    """Delta W, [out, in]."""
    return scale * b @ a


def base_weights(description, model, roles, data, folder):
    """The modules of these roles -> weights [out, in] as the compiler reads them, whatever the checkpoint's form: a program that
    trains them whole, at a rate of 0 for one step, writes them into the folder."""
    other = ("--lora", "down" if "up" in roles else "up", "--rank", 1)
    made = paperlib.compiled(description, folder / "read", "--weights", model, *other, "--train", ",".join(roles), "--batch", 1,
                             "--length", 128)
    paperlib.train(made, folder / "weights", "--data", data, "--long", "truncate", "--steps", 1, "--lr", 0)
    found = {re.fullmatch(re.escape(PREFIX) + r"(.*)\.weight", name)[1]: value.astype(float)
             for name, value in load(folder / "weights/adapter_model.safetensors").items() if ".lora_" not in name}
    made["program"].unlink()
    return found


def directions(matrix, count=None):
    """The left and the right singular vectors as columns, those of the largest singular values first: outputs' and inputs'."""
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :count], v[:count].T


def input_directions(matrix):
    return directions(matrix)[1]


def similarity(u, v):
    """phi(i, j) = ||U_i' V_j||^2 / min(i, j) for all i, j: how much of the span of U's first i columns lies in that of V's
    first j; 0: nothing, 1: one contains the other.  Columns are orthonormal; phi(i, j) is in row i - 1 and column j - 1."""
    overlap = np.cumsum(np.cumsum((u.T @ v) ** 2, axis=0), axis=1)
    i, j = np.indices(overlap.shape) + 1
    return overlap / np.minimum(i, j)


def inside(weight, matrix, rank):
    """||U' W V||: how much of W lies in the first `rank` singular directions of a matrix (the paper's Table 7)."""
    u, v = directions(matrix, rank)
    return float(np.linalg.norm(u.T @ weight @ v))


def amplification(delta, weight, rank):
    """How much Delta W amplifies the directions that it has: ||Delta W|| / ||U' W V||."""
    return float(np.linalg.norm(delta)) / inside(weight, delta, rank)
