#!/usr/bin/env python3
"""An adapter that a training program wrote is read back as what was trained, whatever its settings (tests/interchange asks PEFT).

    adapters.py LORACC MODEL        MODEL: a folder of tests/data/goldens

The loss of what was trained is the training program's own; that of what is read back comes from the logits of programs compiled with
it beside the base, merged, and, where the adapter is not in PEFT's form, with the equivalent one that lies beside it."""
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
from common import case, error, load, plain, save
from goldens import Model

SETTINGS = {
    "gpt2": ["--lora q,v --method lora:rslora=1", "--lora q=4:8,v=3 --layers 1:2", "--lora k,up=5 --method lora:bias=lora_only", "--lora q --train norm",
             "--lora c_attn=3:6,mlp.c_proj=5", "--lora o=4:8,down=2:3 --train bias", "--lora up --train k", "--lora up --train embed", "--lora embed",
             "--lora q,v=3:5 --method pissa", "--lora mlp.c_proj,o=3 --method olora", "--lora q,up --method bitfit", "--method ia3 --method bitfit",
             "--lora q --layers 0 --method top_layers:layers=1"],
    "llama": ["--lora q_proj=3:5,down=4 --method lora:rslora=1", "--lora q,v --layers 0,2 --train norm", "--lora up --train embed", "--lora embed",
              "--lora q,down=3:7 --method pissa:rslora=1", "--lora k,gate --method olora",
              "--lora up,v --method pissa:dora=1"],
}
WEIGHTS = {  # of an adapted module, as [out, in]
    "gpt2": ("transformer.h.0.mlp.c_fc", lambda t: t["h.0.mlp.c_fc.weight" if "h.0.mlp.c_fc.weight" in t else "transformer.h.0.mlp.c_fc.weight"].T),
    "llama": ("model.layers.1.mlp.down_proj", lambda t: t["model.layers.1.mlp.down_proj.weight"]),
}


def loss(logits, labels):
    targets = labels[:, 1:]
    rows, picked = logits[:, :-1].astype(np.float64)[targets >= 0], targets[targets >= 0]
    rows -= rows.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(rows).sum(axis=1)) - rows[np.arange(len(picked)), picked]))


class Adapters(Model):
    def compile(self, program, *options, **more):
        return super().compile(program, "--target", "generic", *options, **more)

    def tensors(self, folder):
        return {k: (v.shape, v.tobytes()) for k, v in load(folder / "adapter_model.safetensors").items()}

    def steps(self, out, steps, *options):
        return self.checks.run(self.scratch / "train", "--tensors", self.scratch / "batches", "--steps", steps, "--out", out, *options) is not None

    def round_trip(self, number, options):
        given, out, again = case(self.inputs, "adapter"), self.scratch / f"out{number}", self.scratch / f"again{number}"
        save(self.scratch / "in", plain(given))
        save(self.scratch / "batches", plain(load(self.folder / "train_batches.safetensors")))
        if not self.compile("train", *options.split()) or not self.steps(out, 3, "--lr", 0.02):
            return
        self.checks.run(self.scratch / "train", "--init", out, "--tensors", self.scratch / "in", "--gradients", self.scratch / "g")
        trained, tied = float(load(self.scratch / "g")["loss"]), "embed" in options
        ways = [("--with", out)] + [("--merge", out)] * (not tied) + [("--with", out / "peft")] * (out / "peft").exists()
        for way, folder in ways:
            if self.compile("program", way, folder):
                got = loss(self.logits("program", given), given["labels"])
                self.checks.within(abs(got - trained) / trained, 1e-6, f"{options}: loss {way} {folder.name}")
        if tied:
            self.checks.run(self.loracc, self.ldl, "--weights", self.folder, "--merge", out, "-o", self.scratch / "program", fails=2)
        if self.compile("train", "--adapter", out) and self.steps(again, 1, "--lr", 0):
            self.checks.that(self.tensors(out) == self.tensors(again), f"{options}: the same tensors from --adapter")
            if (out / "peft").exists():
                self.checks.that(self.tensors(out / "peft") == self.tensors(again / "peft"), f"{options}: and for PEFT")

    def equivalent(self):
        """The golden adapter on slices, as its golden equivalent."""
        folder = self.folder / "adapters/lora_split_qv"
        if not folder.exists() or not self.compile("train", "--adapter", folder) or not self.steps(self.scratch / "split", 1, "--lr", 0):
            return
        ours, reference = self.scratch / "split/peft", self.folder / "adapters/lora_split_qv_as_peft"
        self.checks.that(self.tensors(ours) == self.tensors(reference), "slices as PEFT has them: the golden tensors")
        keys = "r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "use_rslora", "fan_in_fan_out", "bias", "modules_to_save"
        a, b = (json.loads((f / "adapter_config.json").read_text()) for f in (ours, reference))
        self.checks.that(all(a[k] == b[k] for k in keys), "slices as PEFT has them: the golden settings")

    def loralib(self):
        """Microsoft's MergedLinear(enable_lora=[True, False, True]), against the dense update that its grouped convolution gives."""
        source, folder, dense = self.folder / "adapters/lora_split_qv", self.scratch / "loralib", self.scratch / "dense"
        if not source.exists():
            return
        config, slices = json.loads((source / "adapter_config.json").read_text()), load(source / "adapter_model.safetensors")
        weights, pairs = load(self.folder / "model.safetensors"), {}
        for module in sorted({name.rsplit(".", 3)[0] for name in slices}):
            a, b = (np.concatenate([slices[f"{module}.{part}.lora_{x}.weight"] for part in "qv"]) for x in "AB")
            pairs |= {f"{module}.lora_A": a, f"{module}.lora_B": b}
            rank = b.shape[1]
            delta = np.zeros((3, len(b) // 2, a.shape[1]))
            delta[[True, False, True]] = np.einsum("gor,gri->goi", b.reshape(2, -1, rank), a.reshape(2, rank, -1))
            update = config["alpha"] / rank * delta.reshape(-1, a.shape[1]).T
            weights[f"{module}.weight"] = (weights[f"{module}.weight"] + update).astype(np.float32)
        shutil.copytree(self.folder, dense, ignore=shutil.ignore_patterns("adapters", "variants"))
        save(dense / "model.safetensors", weights)
        folder.mkdir()
        save(folder / "adapter_model.safetensors", pairs)
        (folder / "adapter_config.json").write_text(json.dumps({"method": "split_lora", "parts": ["q", "v"], "alpha": config["alpha"]}))
        given, golden = case(self.inputs, "adapter"), load(source / "expected.safetensors")
        save(self.scratch / "in", plain(given))
        reference = self.logits("program", given) if self.compile("program", weights=dense) else np.zeros(0)
        for option in "--merge", "--with":
            if self.compile("program", option, folder):
                ours, mask = self.logits("program", given), given["attention_mask"].astype(bool)
                self.checks.within(error(ours, reference, mask), 3e-5, f"loralib {option}: the dense update")
                self.checks.within(error(ours, golden["logits"], mask), 3e-5, f"loralib {option}: the golden slices")
        for options, init in (("--lora", "q,v", "--rank", config["r"], "--alpha", config["alpha"]), ("--init", folder)), (("--adapter", folder), ()):
            if self.compile("train", *options):
                self.checks.run(self.scratch / "train", *init, "--tensors", self.scratch / "in", "--gradients", self.scratch / "g")
                loss = float(load(self.scratch / "g")["loss"])
                self.checks.within(abs(loss - float(golden["loss"])), 1e-5, f"loralib {init[0] if init else options[0]}: the golden loss")
        for parts, alpha, said in (["v", "q"], 8, "order"), (["q", "k", "v"], 8, "3 parts"), (["q", "v"], None, "alpha"), ([], 8, "parts"):
            (folder / "adapter_config.json").write_text(json.dumps({"method": "split_lora", "parts": parts, "alpha": alpha}))
            message = self.checks.run(*self.command("program", "--merge", folder), fails=2) or ""
            self.checks.that(message.count("\n") == 1 and said in message, f"loralib with {parts}, alpha {alpha}: refused", message.strip())

    def loralib_linear(self):
        """The golden adapter of whole weights under loralib's names."""
        source, folder = self.folder / "adapters/lora_qv", self.scratch / "linear"
        if not source.exists():
            return
        shutil.copytree(source, folder)
        tensors = load(source / "adapter_model.safetensors")
        save(folder / "adapter_model.safetensors", {k.removeprefix("base_model.model.").removesuffix(".weight"): v for k, v in tensors.items()})
        given, golden = case(self.inputs, "adapter"), load(source / "expected.safetensors")
        if self.compile("program", "--merge", folder):
            mask = given["attention_mask"].astype(bool)
            self.checks.within(error(self.logits("program", given), golden["logits"], mask), 3e-5, "loralib's Linear: the golden logits")

    def changed_settings(self):
        """Settings given beside --adapter are what is written."""
        folder = self.folder / "adapters/rslora"
        if not self.compile("train", "--adapter", folder, "--method", "lora:rslora=0,alpha=3") or not self.steps(self.scratch / "changed", 1):
            return
        config = json.loads((self.scratch / "changed/adapter_config.json").read_text())
        self.checks.that(config["use_rslora"] is False and config["lora_alpha"] == 3, "settings beside --adapter are written")

    def computed_start(self):
        """PiSSA begins as the truncated singular value decomposition of the weight and OLoRA as its QR's; the model is still the base."""
        module, read = WEIGHTS[self.folder.name]
        w, given = read(load(self.folder / "model.safetensors")).astype(np.float64), case(self.inputs, "adapter")
        left, values, right = np.linalg.svd(w)
        q = np.linalg.qr(w)[0][:, :4]
        parts = {"pissa": (left[:, :4] * values[:4]) @ right[:4], "olora": 2.0 * q @ (q.T @ w)}
        save(self.scratch / "in", plain(given))
        self.compile("base")
        reference = loss(self.logits("base", given), given["labels"])
        for name, part in parts.items():
            out = self.scratch / f"start-{name}"
            if not self.compile("train", "--lora", "up,down", "--rank", 4, "--method", name) or not self.steps(out, 1, "--lr", 0):
                continue
            tensors = load(out / "adapter_model.safetensors")
            a, b = (tensors[f"base_model.model.{module}.lora_{x}.weight"].astype(np.float64) for x in "AB")
            self.checks.within(error(2.0 * b @ a, part), 1e-6, f"{name}: what the pair begins as")
            self.checks.that(np.allclose(np.triu(a), a, atol=0) if name == "olora" else np.allclose(a @ a.T, b.T @ b, atol=1e-5), f"{name}: its factors")
            self.checks.run(self.scratch / "train", "--tensors", self.scratch / "in", "--gradients", self.scratch / "g")
            self.checks.within(abs(float(load(self.scratch / "g")["loss"]) - reference) / reference, 1e-6, f"{name}: begins at the base")

    def projected_prefix(self):
        """A prefix that a network makes: its gradients, and the table that is written is the prefix that was trained."""
        batches = plain(load(self.folder / "train_batches.safetensors"))
        save(self.scratch / "batches", batches)
        if not self.compile("train", "--method", "prefix_tuning:tokens=5,projection=24"):
            return
        checked = self.checks.run(self.scratch / "train", "--tensors", self.scratch / "batches", "--check") or ""
        self.checks.that("prompt_encoder.transform.0.weight" in checked, "projected prefix: gradients are finite differences")
        out, rates = self.scratch / "projected", ("--lr", 0.02, "--schedule", "constant")
        self.steps(out, 3, *rates)
        self.checks.run(self.scratch / "train", "--tensors", self.scratch / "batches", "--steps", 4, "--out", self.scratch / "further", "--metrics",
                        self.scratch / "m", *rates)
        trained = json.loads((self.scratch / "m").read_text().splitlines()[3])["loss"] # of the fourth batch, before its step
        self.checks.that(list(load(out / "adapter_model.safetensors")) == ["prompt_embeddings"], "projected prefix: only the table is written")
        given = {k: v[3] for k, v in batches.items()}
        if self.compile("program", "--with", out):
            got = loss(self.logits("program", given)[:, -given["labels"].shape[1]:], given["labels"])
            self.checks.within(abs(got - trained) / trained, 1e-6, "projected prefix: loss --with")

    def high_rank(self):
        """A rank above the width, which PEFT allows, is read; a new adapter of that rank is an error."""
        source, folder = self.folder / "adapters/rslora", self.scratch / "high"
        config = json.loads((source / "adapter_config.json").read_text())
        tensors = load(source / "adapter_model.safetensors")
        rank, filled = 300, {}
        for name, value in tensors.items():
            axis = 0 if "lora_A" in name else 1
            extra = list(value.shape)
            extra[axis] = rank - value.shape[axis]
            filled[name] = np.concatenate([value, np.zeros(extra, np.float32)], axis)
        shutil.copytree(source, folder)
        save(folder / "adapter_model.safetensors", filled)
        config |= {"r": rank, "lora_alpha": config["lora_alpha"] * (rank / config["r"]) ** 0.5}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        if self.compile("program", "--with", folder):
            self.checks.within(error(self.logits("program", case(self.inputs, "adapter")), load(source / "expected.safetensors")["logits"],
                                     case(self.inputs, "adapter")["attention_mask"].astype(bool)), 3e-5, "a rank above the width")


    def what_beside_costs(self):
        """What keeping an adapter beside the base costs, counted by hand: two FLOPs for each weight of a product and each token, four for
        each element of a head and each pair of a query and a key."""
        c = json.loads((self.folder / "config.json").read_text())
        if "n_embd" in c:
            d, layers, vocabulary, context, projections = c["n_embd"], c["n_layer"], c["vocab_size"], c["n_positions"], 4 + 2 * 4
        else:
            d, layers, vocabulary, context = c["hidden_size"], c["num_hidden_layers"], c["vocab_size"], c["max_position_embeddings"]
            projections = 2 + 2 * c["num_key_value_heads"] / c["num_attention_heads"] + 3 * c["intermediate_size"] / d
        def flops(tokens, more=0):
            return 2 * tokens * (layers * (projections * d * d + more) + d * vocabulary) + layers * 4 * d * tokens * (tokens + 1) / 2
        for name, learned, more in ("houlsby", 0, 2 * 2 * d * 7), ("prefix_tuning", 3, 0):
            for length in 20, context:
                tokens = min(length, context - learned)
                message = self.checks.run(self.loracc, self.ldl, "--weights", self.folder, "--length", length, "--merge", self.folder / "adapters" / name,
                                          "-o", self.scratch / "never", fails=2) or ""
                percent = 100 * (flops(tokens + learned, more) / flops(tokens) - 1)
                said = f"{name} cannot be merged", f"it runs with {percent:.3g} % more FLOPs, for {tokens} tokens", "--with"
                self.checks.that(all(part in message for part in said), f"{name} beside the base, {tokens} tokens", f"{percent:.3g} %: {message.strip()}")


def main():
    loracc, name = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
        model = Adapters(loracc, name, pathlib.Path(scratch))
        for number, options in enumerate(SETTINGS[name]):
            model.round_trip(number, options)
        parts = (model.equivalent, model.loralib, model.loralib_linear, model.changed_settings, model.computed_start, model.projected_prefix,
                 model.high_rank, model.what_beside_costs)
        for part in parts:
            part()
        model.checks.finish()


if __name__ == "__main__":
    main()
