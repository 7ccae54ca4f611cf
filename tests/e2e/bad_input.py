#!/usr/bin/env python3
"""Every kind of bad input gives one clear line that names the place, a non-zero status, and leaves nothing behind.

    bad_input.py LORACC"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import tiny
from common import ROOT, Checks, load, save


class Test:
    def __init__(self, loracc, folder):
        self.loracc, self.folder, self.checks = loracc, folder, Checks()
        self.ldl = ROOT / "examples/llama.ldl"
        self.model = tiny.make(folder / "model")
        self.data = tiny.write_rows(folder / "rows.jsonl", 12)
        self.train, self.base, self.adapter = folder / "train", folder / "base", folder / "adapter"
        compile_ = [loracc, self.ldl, "--weights", self.model, "--length", "128"]
        self.checks.run(*compile_, "--lora", "q,v", "--rank", 4, "-o", self.train)
        self.checks.run(*compile_, "-o", self.base)
        self.checks.run(self.train, "--data", self.data, "--steps", 2, "--out", self.adapter)

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def copy(self, source, name, **files):
        """A copy of a folder with some of its files changed (None: missing)."""
        target = self.folder / name
        shutil.copytree(source, target)
        for file, content in files.items():
            path = target / file.replace("__", ".")
            path.unlink(missing_ok=True)
            if content is not None:
                self.write(path.relative_to(self.folder), content)
        return target

    def refused(self, what, argv, *parts, lines=1, out=None, environment=None):
        """`parts`: what the message has to contain.  `lines`: at most so many (descriptions show the place in the source)."""
        argv = [str(a) for a in argv]
        if out and pathlib.Path(out).is_dir():
            shutil.rmtree(out)
        elif out:
            pathlib.Path(out).unlink(missing_ok=True)
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=120, env=environment)
        # A program that has read data says so.
        message = "\n".join(line for line in done.stderr.strip().split("\n") if " documents, " not in line)
        missing = [p for p in parts if str(p) not in message]
        good = done.returncode in (1, 2) and not missing and message.count("\n") < lines and "internal error" not in message
        if out:
            good = good and not pathlib.Path(out).exists()
        self.checks.that(good, what, "" if good else f"exit {done.returncode}, lacks {missing}, said: {message[-400:]}")

    def compile(self, what, *options, parts=(), lines=1, ldl=None, model=None):
        out = self.folder / "never"
        self.refused(what, [self.loracc, ldl or self.ldl, "--weights", model or self.model, *options, "-o", out], *parts, lines=lines, out=out)

    def calls(self):
        self.refused("no arguments", [self.loracc], "no model given")
        self.refused("unknown option", [self.loracc, self.ldl, "--lorra", "q"], "--lorra", "--lora", lines=2)
        self.refused("option without its value", [self.loracc, self.ldl, "--rank"], "--rank")
        self.refused("no such description", [self.loracc, "no.ldl", "--lora", "q"], "no.ldl")
        self.refused("no such weights", [self.loracc, self.ldl, "--weights", "nowhere"], "nowhere")
        for option, value in (("--rank", "0"), ("--rank", "65"), ("--rank", "four"), ("--alpha", "x"), ("--dropout", "1"), ("--batch", "0"),
                              ("--length", "-3"), ("--length", "99999999999999999999")):
            self.compile(f"{option} {value}", "--lora", "q,v", option, value, parts=("rank" if option == "--rank" else option.lstrip("-"),))
        self.compile("a role that matches nothing", "--lora", "q,key", parts=("'key'", "roles are"), lines=2)
        self.compile("a layer there is not", "--lora", "q", "--layers", "5", parts=("layer 5",))
        self.compile("no such method", "--method", "lara", parts=("lara", "lora"), lines=2)
        self.compile("no such setting", "--method", "lora:rnk=3", parts=("rnk",), lines=2)
        self.compile("two methods of one kind", "--lora", "q", "--method", "ia3", parts=("'lora'", "'ia3'"))
        self.compile("an update of what is trained whole", "--lora", "q", "--method", "top_layers:layers=1", parts=("q_proj", "--layers"))
        self.compile("no such initial values", "--method", "lora:init=pisa", parts=("pisa", "pissa"))
        self.refused("initial values of weights that are not there", [self.loracc, self.ldl, "--config", self.model / "config.json", "--method", "pissa",
                     "-o", self.folder / "never"], "--weights", lines=2, out=self.folder / "never")
        self.compile("no such target", "--target", "avx1024", parts=("avx1024",))
        self.compile("no such storage", "--store", "q3", parts=("q3",))
        self.compile("training and merging", "--lora", "q", "--merge", self.adapter, parts=("--merge",))
        self.refused("output cannot be written", [self.loracc, self.ldl, "--weights", self.model, "-o", "/proc/no/such"], "/proc/no/such")
        self.refused("output is a folder", [self.loracc, self.ldl, "--weights", self.model, "-o", self.model], str(self.model))

    def descriptions(self):
        good = self.ldl.read_text()
        broken = {"empty": "", "not text": b"\xff\xfe\x00\x01" * 50, "half": good[:len(good) // 2], "zero bytes": good.replace("model", "mo\0del", 1),
                  "unknown name": good.replace("rmsnorm(", "rmsnrom(", 1), "nested": "model m { let x = " + "(" * 100000}
        for name, text in broken.items():
            path = self.write(f"{name}.ldl".replace(" ", "-"), text)
            self.compile(f"description: {name}", "--lora", "q", ldl=path, parts=(path.name + ":",), lines=40)
        self.compile("a description of another architecture", ldl=ROOT / "examples/gpt2.ldl", parts=("no tensor",), lines=61)

    def checkpoints(self):
        config, weights = tiny.CONFIG, (self.model / "model.safetensors").read_bytes()
        size = int.from_bytes(weights[:8], "little")
        header = json.loads(weights[8:8 + size])
        def model(name, **files):
            return self.copy(self.model, name.replace(" ", "-"), **files)
        def rebuilt(change):
            changed = json.loads(json.dumps(header))
            change(changed)
            text = json.dumps(changed).encode()
            return len(text).to_bytes(8, "little") + text + weights[8 + size:]
        def drop(h): h["norm"] = h.pop("model.norm.weight")
        def far(h): h["model.norm.weight"]["data_offsets"] = [0, 1 << 60]
        def kind(h): h["model.norm.weight"]["dtype"] = "F7"
        def shape(h): h["model.norm.weight"]["shape"] = [65]
        for name, content, part in (("truncated weights", weights[:-100], "model.safetensors"), ("eight bytes", weights[:8], "model.safetensors"),
                                    ("huge header", b"\xff" * 8 + weights[8:], "model.safetensors"), ("no weights", None, "model.safetensors"),
                                    ("header not JSON", weights[:8] + b"{" * size + weights[8 + size:], "model.safetensors"),
                                    ("a tensor missing", rebuilt(drop), "norm"), ("offsets beyond the end", rebuilt(far), "norm"),
                                    ("unknown type", rebuilt(kind), "F7"), ("wrong shape", rebuilt(shape), "norm")):
            self.compile(f"checkpoint: {name}", model=model(name, model__safetensors=content), parts=(part,), lines=8)
        for name, change in (("no size", {"hidden_size": None}), ("a size of nothing", {"num_hidden_layers": 0}), ("not a number", {"hidden_size": "many"}),
                             ("heads that do not divide", {"num_attention_heads": 7}), ("other widths", {"intermediate_size": 161}),
                             ("sizes beyond reason", {"hidden_size": 1 << 62})):
            changed = {k: v for k, v in (config | change).items() if v is not None}
            self.compile(f"config: {name}", model=model(f"config {name}", config__json=json.dumps(changed)), lines=40)
        for name, text in ("no config", None), ("config not JSON", "{\"a\": "), ("config an array", "[]"), ("config deep", "[" * 100000):
            self.compile(f"config: {name}", model=model(name, config__json=text), parts=("config.json",), lines=2)
        for name, content in ("not GGUF", b"GGML" + b"\0" * 64), ("GGUF truncated", b"GGUF\3\0\0\0" + b"\xff" * 16), ("GGUF version", b"GGUF\x63\0\0\0" + bytes(64)), ("GGUF empty", b""):
            path = self.write(name.replace(" ", "-") + ".gguf", content)
            self.compile(name, model=path, parts=(path.name,))
        for name, text in ("tokenizer not JSON", "{"), ("tokenizer of a kind", json.dumps({"model": {"type": "Unigram", "vocab": []}})), ("tokenizer empty", "{}"):
            self.compile(name, model=model(name, tokenizer__json=text), parts=("tokenizer.json",))

    def adapters(self):
        weights = (self.adapter / "adapter_model.safetensors").read_bytes()
        config = json.loads((self.adapter / "adapter_config.json").read_text())
        tensors = load(self.adapter / "adapter_model.safetensors")
        def adapter(name, **files):
            return self.copy(self.adapter, "adapter-" + name.replace(" ", "-"), **files)
        def with_tensors(change):
            changed = dict(tensors)
            change(changed)
            save(self.folder / "changed", changed)
            return (self.folder / "changed").read_bytes()
        first = sorted(tensors)[0]
        cases = [("truncated", {"adapter_model__safetensors": weights[:-10]}, "adapter_model.safetensors"),
                 ("no tensors", {"adapter_model__safetensors": None}, "adapter_model.safetensors"),
                 ("no config", {"adapter_config__json": None}, "adapter_config.json"),
                 ("config not JSON", {"adapter_config__json": "{]"}, "adapter_config.json"),
                 ("another method", {"adapter_config__json": json.dumps(config | {"peft_type": "LOHA"})}, "LOHA"),
                 ("another rank", {"adapter_config__json": json.dumps(config | {"r": 5})}, "rank"),
                 ("a tensor missing", {"adapter_model__safetensors": with_tensors(lambda t: t.pop(first))}, first),
                 ("a tensor too many", {"adapter_model__safetensors": with_tensors(lambda t: t.update({"base_model.model.extra": np.zeros(3, np.float32)}))}, "extra"),
                 ("of another size", {"adapter_model__safetensors": with_tensors(lambda t: t.update({first: t[first][:, :32]}))}, first),
                 ("not a number", {"adapter_model__safetensors": with_tensors(lambda t: t.update({first: t[first] * np.float32("nan")}))}, first)]
        for name, files, part in cases:
            for option in "--merge", "--with", "--adapter":
                if name == "not a number" and option != "--merge":
                    continue
                path = adapter(f"{name}{option}", **files)
                part = "" if part == "rank" else part
                self.compile(f"{option}: adapter {name}", option, path, parts=(part,), lines=2)
                shutil.rmtree(path)
        self.compile("no such adapter", "--merge", "nowhere", parts=("nowhere",))
        other = tiny.make(self.folder / "other", seed=2)
        self.compile("adapter of another base", "--merge", self.adapter, model=other, parts=("another base",))

    def methods(self):
        """What a model lacks that a method needs."""
        self.compile("BitFit without biases", "--method", "bitfit", parts=("no biases", "lora"))
        self.compile("targets that match nothing", "--method", "ia3:targets=k+key_proj+fc", parts=("'key_proj', 'fc' match no weight", "its roles are embed, "))
        fused = ROOT / "tests/data/goldens/gpt-neox"
        for what, options in ("targets of the paper", ("--method", "ia3")), ("roles", ("--lora", "q,v")):
            self.compile(f"{what} that a fused weight has not", *options, ldl=ROOT / "examples/gpt-neox.ldl", model=fused, parts=("'v'", "roles are", "qkv"))
        for method in "prefix_tuning:tokens=256", "prompt_tuning:tokens=300", "prefix_layer:prefix=250,infix=6", "prefix_embedding:prefix=256":
            self.compile(f"{method}: longer than the context", "--method", method, parts=("256 positions", "fewer"))
        for method in "prefix_embedding", "prefix_layer":
            program, out = self.folder / method, self.folder / "no-infix"
            self.checks.run(self.loracc, self.ldl, "--weights", self.model, "--method", f"{method}:infix=2", "-o", program)
            data = self.write("texts.jsonl", '{"text": "a tensor"}\n' * 4)
            self.refused(f"{method}: an infix in texts without prompts", [program, "--data", data, "--out", out], "texts.jsonl", '"prompt"', out=out)

    def families(self):
        """Models of a kind that no description can say."""
        kinds = {"encoder-decoder": [{"architectures": ["T5ForConditionalGeneration"]}, {"architectures": ["T5WithLMHeadModel"]}, {"model_type": "mbart"},
                                     {"architectures": ["BartForCausalLM"]}, {"model_type": "whisper"}, {"model_type": "new", "is_encoder_decoder": True}],
                 "mixture of experts": [{"architectures": ["MixtralForCausalLM"]}, {"model_type": "qwen2_moe"}, {"model_type": "llama", "num_local_experts": 8},
                                        {"model_type": "new", "n_routed_experts": 64}, {"num_experts": 4}],
                 "state-space": [{"architectures": ["MambaForCausalLM"]}, {"model_type": "falcon_mamba"}, {"model_type": "rwkv"}]}
        plain = {k: v for k, v in tiny.CONFIG.items() if k not in ("architectures", "model_type")}
        for kind, changes in kinds.items():
            for change in changes:
                model = self.copy(self.model, "family", config__json=json.dumps(plain | change))
                name = change["architectures"][0] if "architectures" in change else change.get("model_type", "the model")
                for ldl in "llama", "gpt2":
                    self.compile(f"{ldl}.ldl with {json.dumps(change)}", "--lora", "q", ldl=ROOT / f"examples/{ldl}.ldl", model=model, parts=(str(model), kind, name))
                shutil.rmtree(model)
        for change in {"num_experts": 1}, {"is_encoder_decoder": False}, {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_local_experts": None}:
            model = self.copy(self.model, "family", config__json=json.dumps(plain | change))
            self.checks.run(self.loracc, self.ldl, "--weights", model, "-o", self.folder / "good")
            shutil.rmtree(model)
        self.compile("phi.ldl with a GPT-NeoX", "--lora", "q", ldl=ROOT / "examples/phi.ldl", model=ROOT / "tests/data/goldens/gpt-neox",
                     parts=("no tensor 'lm_head.bias'", "phi.ldl:"), lines=61)

    def encoders(self):
        """Forms of encoders that are not described; other names of RoBERTa, which give its program."""
        refused = {"is_decoder=true": (("bert-mlm", "roberta-mlm"), "as a decoder"),
                   "position_embedding_type=relative_key": (("bert-cls", "roberta-cls"), "with relative positions"),
                   "tie_word_embeddings=false": (("bert-mlm", "roberta-mlm", "deberta-v1-mlm", "deberta-v2-mlm"), "with a head of its own"),
                   "architectures.0=XLMRobertaXLForMaskedLM": (("roberta-mlm",), "'XLMRobertaXLForMaskedLM' is not described"),
                   "talking_head=true": (("deberta-v1-mlm",), "talking heads"), "conv_kernel_size=5": (("deberta-v2-mlm",), "conv_kernel_size 5")}
        goldens, ldl_of = ROOT / "tests/data/goldens", lambda name: ROOT / f"examples/{name.rsplit('-', 1)[0].removesuffix('-v1')}.ldl"
        for change, (names, part) in refused.items():
            for name in names:
                self.compile(f"{name} with {change}", "--set", change, ldl=ldl_of(name), model=goldens / name, parts=(".ldl:", part), lines=3)
        for name, ours in ("roberta-mlm", "RobertaForMaskedLM"), ("roberta-cls", "RobertaForSequenceClassification"):
            for theirs in ours, ours.replace("Roberta", "XLMRoberta"), ours.replace("Roberta", "Camembert"):
                program = self.folder / theirs
                self.checks.run(self.loracc, ldl_of(name), "--weights", goldens / name, "--set", f"architectures.0={theirs}", "-o", program)
                self.checks.run(self.loracc, "verify", self.folder / ours, program)

    def unread(self):
        """Tensors that the description has no part for are named; where there are none, nothing is said.  With and without the prefix."""
        whole = load(self.model / "model.safetensors")
        bare = {name.removeprefix("model."): tensor for name, tensor in whole.items()}
        extra = {f"layers.{i}.self_attn.q_proj.bias": np.zeros(4, np.float32) for i in range(5)}
        names = [*extra]
        for what, tensors, note in (
                ("a whole model", whole, ""), ("an encoder alone", bare, ""),
                ("one tensor more", whole | {names[0]: extra[names[0]]}, f"loracc: note: 1 tensor of the checkpoint has no part in the description: {names[0]}"),
                ("five tensors more", bare | extra, f"loracc: note: 5 tensors of the checkpoint have no part in the description: {', '.join(names[:3])}, ...")):
            model = self.copy(self.model, "unread", model__safetensors=None)
            save(model / "model.safetensors", tensors)
            done = subprocess.run([self.loracc, self.ldl, "--weights", model, "-o", self.folder / "read"], capture_output=True, text=True)
            self.checks.that(done.returncode == 0 and done.stderr.strip() == note, what, done.stderr)
            shutil.rmtree(model)

    def training(self):
        out = self.folder / "nothing"
        def train(what, *options, parts=(), lines=1, data=None):
            self.refused(what, [self.train, "--data", data or self.data, "--steps", 2, "--out", out, *options], *parts, lines=lines, out=out)
        rows = self.data.read_text()
        bad_rows = {"empty": ("", "empty.jsonl"), "blank": ("\n\n", "blank.jsonl"), "not JSON": (rows + "{\"prompt\": \n", "13"), "an array": ("[1]\n", "1"),
                    "no fields": (rows + "{\"promt\": \"a\"}\n", "13"), "a number as text": ("{\"text\": 5}\n", "1"),
                    "not UTF-8": (b'{"text": "\xff\xfe"}\n', "1"), "no text": ("{\"text\": \"\"}\n" * 3, "no-text"),
                    "deep": ("{\"text\": " + "[" * 100000 + "\n", "1")}
        for name, (text, part) in bad_rows.items():
            path = self.write(name.replace(" ", "-") + ".jsonl", text)
            train(f"data: {name}", data=path, parts=(path.name, part), lines=3)
        train("data: no such file", data="nowhere.jsonl", parts=("nowhere.jsonl",))
        train("data: a folder", data=self.folder, parts=(str(self.folder),))
        for option, value in (("--steps", "0"), ("--lr", "-1"), ("--lr", "nan"), ("--length", "4096"), ("--schedule", "square"),
                              ("--threads", "0"), ("--tier", "neon"), ("--clip", "x"), ("--accumulate", "0"), ("--long", "wrap"), ("--beta1", "1")):
            train(f"{option} {value}", option, value, parts=(option.lstrip("-").split("-")[0],))
        self.refused("no data", [self.train, "--out", out], "--data", out=out)
        self.refused("no output", [self.train, "--data", self.data], "--out")
        train("resume without a checkpoint", "--resume", parts=(str(out),))
        train("validation without targets", "--validation", self.write("none.jsonl", ""), parts=("none.jsonl",))
        train("weights of other shapes", "--weights", self.copy(self.model, "half-model", model__safetensors=None), parts=("half-model",))
        wide = tiny.make(self.folder / "wide", tiny.CONFIG | {"hidden_size": 128})
        train("weights of another model", "--weights", wide, parts=(str(wide),))
        other = self.folder / "other" if (self.folder / "other").exists() else tiny.make(self.folder / "other", seed=2)
        train("start from an adapter of another base", "--init", self.adapter, "--weights", other, parts=("another base",))
        self.refused("output below a file", [self.train, "--data", self.data, "--steps", 2, "--out", self.data / "x"], "rows.jsonl")
        sanitized = b"libasan" in self.train.read_bytes()  # which reserves terabytes
        sanitized or self.refused("too little memory", ["sh", "-c", 'ulimit -v 12000; exec "$@"', "sh", self.train, "--data", self.data, "--out", out], "memory", out=out)
        batches = self.folder / "batches"
        save(batches, {"input_ids": np.full((2, 5), 5000, np.int32)})
        self.refused("tokens out of range", [self.train, "--tensors", batches, "--gradients", out], "5000", out=out)
        save(batches, {"labels": np.zeros((2, 5), np.int32)})
        self.refused("no input_ids", [self.train, "--tensors", batches, "--gradients", out], "input_ids", out=out)
        save(batches, {"input_ids": np.zeros((2, 500), np.int32)})
        self.refused("rows too long", [self.train, "--tensors", batches, "--gradients", out], "500", out=out)

    def inference(self):
        self.refused("no prompt", [self.base], "the prompt is empty")
        for option, value in ("--max-tokens", "-1"), ("--temperature", "hot"), ("--top-p", "2"), ("--top-k", "-1"), ("--time", "0"), ("--ids", "1 2 x"), ("--ids", "1 9999"):
            self.refused(f"{option} {value}", [self.base, *(["text"] if option != "--ids" else []), option, value], value.split()[-1])
        self.refused("a prompt too long", [self.base, "word " * 2000], "128")
        self.refused("unknown option", [self.base, "--tempature", "1"], "--tempature", lines=2)
        self.refused("verify of no program", [self.loracc, "verify", self.base, self.data], "rows.jsonl")
        self.refused("verify of nothing", [self.loracc, "verify", self.base, "nowhere"], "nowhere")
        short = self.write("short", self.base.read_bytes()[:-1000])
        short.chmod(0o755)
        self.refused("a program that was cut off", [short, "text"], "short")

    def paper(self):
        """A script that lacks a module says so before it trains; Python's -S hides the installed ones."""
        self.refused("a table without its modules", [sys.executable, "-S", ROOT / "examples/paper/classification"], "classification: error:",
                     "'matplotlib'", "examples/paper/setup", environment=os.environ | {"LORACC": str(self.loracc)})


def main():
    with tempfile.TemporaryDirectory(prefix="loracc-") as folder:
        test = Test(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(folder))
        for part in (test.calls, test.descriptions, test.checkpoints, test.adapters, test.methods, test.families, test.encoders, test.unread, test.training,
                     test.inference, test.paper):
            part()
        leftovers = [p.name for p in test.folder.iterdir() if ".tmp" in p.name or p.suffix == ".o"]
        test.checks.that(not leftovers, "nothing half-written is left", leftovers)
        test.checks.finish()


if __name__ == "__main__":
    main()
