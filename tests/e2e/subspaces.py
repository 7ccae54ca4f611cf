#!/usr/bin/env python3
"""The numbers of the rank study (examples/paper/subspaces.py) are those that geometry and hand computation give.

    subspaces.py LORACC"""
import os
import pathlib
import sys
import tempfile

import numpy as np
import tiny
from common import GOLDENS, ROOT, Checks, error, load

os.environ["LORACC"] = sys.argv[1]
sys.path.insert(0, str(ROOT / "examples/paper"))
import subspaces

RANDOM = np.random.default_rng(3)


def orthogonal(n):
    return np.linalg.qr(RANDOM.standard_normal((n, n)))[0]


def similarities(checks):
    axes = np.eye(6)
    same, apart = subspaces.similarity(axes[:, :3], axes[:, :3]), subspaces.similarity(axes[:, :3], axes[:, 3:])
    checks.within(abs(same - [[1, 1, 1], [1, 1, 1], [1, 1, 1]]).max(), 1e-15, "phi of nested spans is 1")
    checks.within(abs(apart).max(), 0, "phi of orthogonal spans is 0")
    swapped = subspaces.similarity(axes[:, :2], axes[:, [1, 0]])
    checks.within(abs(swapped - [[0, 1], [1, 1]]).max(), 0, "phi of e1, e2 and e2, e1 is 0, 1, 1, 1")
    angle = np.array([[0.6, 0], [0.8, 0], [0, 0.8], [0, 0.6], [0, 0], [0, 0]])  # with e1, e3: cosines 0.6 and 0.8
    by_hand = [[0.36, 0.36], [0.36, 0.5]]  # squares summed: .36, .36 + 0; .36 + 0, (.36 + .64) / 2
    checks.within(abs(subspaces.similarity(axes[:, [0, 2]], angle) - by_hand).max(), 1e-15, "phi of two angles, by hand")
    u, v = orthogonal(20)[:, :8], orthogonal(20)[:, :12]
    phi, slow = subspaces.similarity(u, v), np.zeros((8, 12))
    for i in range(8):
        for j in range(12):
            slow[i, j] = np.linalg.norm(u[:, :i + 1].T @ v[:, :j + 1], "fro") ** 2 / min(i + 1, j + 1)
    checks.within(abs(phi - slow).max(), 1e-13, "phi is the formula's")
    checks.within(abs(phi - subspaces.similarity(v, u).T).max(), 1e-13, "phi of B and A is that of A and B")
    means = [subspaces.similarity(orthogonal(20)[:, :4], orthogonal(20)[:, :5])[3, 4] for _ in range(400)]
    checks.within(abs(np.mean(means) - 5 / 20), 0.02, "phi of random spans is j / d on average")


def rotations(checks):
    a, other = RANDOM.standard_normal((4, 30)), RANDOM.standard_normal((8, 30))
    phi = [subspaces.similarity(subspaces.input_directions(m), subspaces.input_directions(other)) for m in (a, orthogonal(4) @ a)]
    checks.within(abs(phi[0] - phi[1]).max(), 1e-12, "phi does not change when A's rows are rotated")
    turn = orthogonal(30)
    turned = subspaces.similarity(subspaces.input_directions(a @ turn), subspaces.input_directions(other @ turn))
    checks.within(abs(phi[0] - turned).max(), 1e-12, "nor when the inputs of both are")
    mixed = subspaces.similarity(subspaces.input_directions(RANDOM.standard_normal((4, 4)) @ a), subspaces.input_directions(a))
    checks.within(abs(mixed[3] - [1, 1, 1, 1]).max(), 1e-10, "the whole span survives any mixing of A's rows")
    for columns, rows in zip(subspaces.directions(a), (4, 30)):
        checks.that(columns.shape == (rows, 4), "singular directions are columns", columns.shape)
        checks.within(abs(columns.T @ columns - np.eye(4)).max(), 1e-13, "and orthonormal")


def amplifications(checks):
    weight = np.diag([5.0, 4, 3, 2, 1])
    one, two = np.diag([0.0, 0, 0, 8, 0]), np.diag([0.0, 6, 0, 8, 0])
    for name, found, by_hand in (
            ("W along a planted direction", subspaces.inside(weight, one, 1), 2),
            ("its amplification", subspaces.amplification(one, weight, 1), 4),
            ("W along two planted directions", subspaces.inside(weight, two, 2), 20 ** 0.5),
            ("their amplification", subspaces.amplification(two, weight, 2), 5 ** 0.5),
            ("W along its own first two", subspaces.inside(weight, weight, 2), 41 ** 0.5),
            ("W along all of its own", subspaces.inside(weight, weight, 5), 55 ** 0.5),
            ("the amplification of W by itself", subspaces.amplification(weight, weight, 5), 1)):
        checks.within(abs(found - by_hand), 1e-12, f"{name} is {by_hand:.4g}")
    left, right = orthogonal(5), orthogonal(5)
    turned = subspaces.amplification(left @ two @ right, left @ weight @ right, 2)
    checks.within(abs(turned - 5 ** 0.5), 1e-12, "amplification does not change when inputs and outputs are rotated")
    weight, noise = RANDOM.standard_normal((300, 200)), RANDOM.standard_normal((300, 200))
    expected = 10 * np.linalg.norm(weight) / 60000 ** 0.5  # 100 of 60,000 equal parts of ||W||^2
    share = subspaces.inside(weight, noise, 10) / expected
    checks.within(abs(share - 1), 0.2, "a random matrix's directions have their share of W")


def files(checks, scratch):
    """Weights of a checkpoint are read as they are there; updates as PEFT merges them."""
    rows = tiny.write_rows(scratch / "rows.jsonl", 4)
    folder = tiny.make(scratch / "tiny")
    found = subspaces.base_weights("llama", folder, ("q", "o"), rows, scratch / "w")
    checkpoint = load(folder / "model.safetensors")
    modules = {f"model.layers.{i}.self_attn.{role}_proj" for i in range(2) for role in "qo"}
    checks.that(set(found) == modules, "the weights of q and o are read", len(found))
    checks.that(all(np.array_equal(v, checkpoint[f"{k}.weight"]) for k, v in found.items()), "as the checkpoint has them")
    base = load(GOLDENS / "llama/model.safetensors")
    for name in "lora_qv", "rslora", "lora_patterns", "lora_all_linear":
        golden = GOLDENS / "llama/adapters" / name
        merged, worst = load(golden / "merged.safetensors"), 0
        for module, factors in subspaces.adapter(golden).items():
            by_peft = merged[f"{module}.weight"].astype(float) - base[f"{module}.weight"]
            worst = max(worst, error(subspaces.update(*factors), by_peft))
        checks.within(worst, 1e-5, f"{name}: Delta W is what PEFT merges")


def main():
    checks = Checks()
    similarities(checks)
    rotations(checks)
    amplifications(checks)
    with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
        files(checks, pathlib.Path(scratch))
    checks.finish()


if __name__ == "__main__":
    main()
