#!/usr/bin/env python3
"""Encoders on text: classifiers, regression and masked language models are trained, merged and asked, and answer what their
logits say.

    encoders.py LORACC"""
import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
from common import GOLDENS, ROOT, Checks, case, error, load, plain, save

LDL = ROOT / "examples/bert.ldl"
ANIMALS = {"bird": "sings flies feather nest", "cat": "purrs paw whisker mouse", "fish": "swims fin water scale"}
OTHERS = "the a it is was and very old new small big red blue here there".split()
SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
WORDS = SPECIAL + OTHERS + [word for words in ANIMALS.values() for word in words.split()]


class Encoder:
    """A golden model with a vocabulary of its own."""

    def __init__(self, loracc, golden, scratch, checks):
        self.loracc, self.checks, self.scratch = loracc, checks, scratch
        self.folder = scratch / golden
        shutil.copytree(GOLDENS / golden, self.folder, ignore=shutil.ignore_patterns("adapters", "expected*", "*batches*"))
        (self.folder / "vocab.txt").write_text("".join(word + "\n" for word in WORDS))
        self.options = []

    def compile(self, name, *options):
        program = self.scratch / name
        self.checks.run(self.loracc, LDL, "--weights", self.folder, "-o", program, *self.options, *options)
        return program

    def train(self, name, data, validation, *options, steps=60):
        out, metrics = self.scratch / f"{name}-out", self.scratch / f"{name}.jsonl"
        program = self.compile(name, "--batch", 8, "--length", 32, *options)
        self.checks.run(program, "--data", data, "--validation", validation, "--out", out, "--steps", steps, "--lr", "5e-3", "--metrics", metrics)
        return out, [json.loads(line) for line in metrics.read_text().splitlines()]

    def logits(self, program, ids, types):
        inputs, outputs = self.scratch / "in", self.scratch / "logits"
        save(inputs, {"input_ids": np.array([ids], np.int32), "token_type_ids": np.array([types], np.int32)})
        self.checks.run(program, "--logits", inputs, outputs)
        return load(outputs)["logits"][0]


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max())
    return e / e.sum()


def ids_of(*texts):
    ids, types = [WORDS.index("[CLS]")], [0]
    for kind, text in enumerate(texts):
        piece = [WORDS.index(word) for word in text.split()] + [WORDS.index("[SEP]")]
        ids, types = ids + piece, types + [kind] * len(piece)
    return ids, types


def sentences(count, seed):
    """A text, and which animal it is about."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        animal = str(random.choice(list(ANIMALS)))
        words = [*random.choice(OTHERS, random.integers(2, 9)), *random.choice(ANIMALS[animal].split(), 2)]
        yield " ".join(random.permutation(words)), animal


def write_csv(path, rows, first="text,label"):
    path.write_text(first + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def classifier(loracc, scratch, checks):
    model = Encoder(loracc, "bert-cls", scratch, checks)
    data, validation = write_csv(scratch / "train.csv", sentences(200, 1)), write_csv(scratch / "valid.csv", sentences(60, 2))
    adapter, metrics = model.train("classify-train", data, validation, "--lora", "all-linear")
    accuracy = metrics[-1]["accuracy"]
    checks.that(accuracy >= 0.95, "three classes are learned", f"accuracy {accuracy:.3f}")
    program = model.compile("classify", "--merge", adapter)
    answer = json.loads(checks.run(program, "--evaluate", validation, "--json") or "{}")
    checks.within(abs(answer["accuracy"] - accuracy), 1e-8, "the merged program is as often right")
    checks.within(abs(answer["loss"] - metrics[-1]["validation_loss"]), 1e-5, "... and has the loss that training saw")
    for texts in ("a red fin", ), ("the old cat", "it purrs and was very small"):
        texts = [" ".join(word for word in text.split() if word in WORDS) for text in texts]
        said = json.loads(checks.run(program, *texts, "--json") or "{}")
        likely = softmax(model.logits(program, *ids_of(*texts)))
        checks.that(list(said["probabilities"]) == sorted(ANIMALS), "classes have the names of the data")
        checks.within(float(np.abs(np.array(list(said["probabilities"].values())) - likely).max()), 1e-6, f"probabilities of {len(texts)} texts")
        checks.that(said["label"] == sorted(ANIMALS)[likely.argmax()], "the answer is the likeliest class")
    lines = checks.run(program, input="a purrs paw\nsings nest\n") or ""
    checks.that([line.split("\t")[0] for line in lines.splitlines()] == ["cat", "bird"], "one answer for each line", repr(lines))

    train, out = scratch / "classify-train", scratch / "bad"
    bad = {"a label that training lacks": (["a,cat", "b,dog"], "dog"), "no label": (["a,"], "label"),
           "two labels for a head of three": (["a,cat", "b,fish"], "--set num_labels=2")}
    for what, (rows, part) in bad.items():
        file = scratch / "bad.csv"
        file.write_text("text,label\n" + "\n".join(rows) + "\n")
        options = ("--data", data, "--validation", file) if "lacks" in what else ("--data", file)
        said = checks.run(train, *options, "--out", out, "--steps", 1, fails=2) or ""
        last = said.strip().splitlines()[-1] if said else ""
        checks.that("error:" in last and "bad.csv" in last and part in last and not out.exists(), what, last)


def regression(loracc, scratch, checks):
    model = Encoder(loracc, "bert-mlm", scratch / "regression", checks)
    model.options = ["--set", "architectures.0=BertForSequenceClassification,num_labels=1,problem_type=regression"]
    rows = [(text, text.split().count("very") + 0.5 * text.split().count("old")) for text, _ in sentences(200, 3)]
    data = write_csv(scratch / "values.csv", rows)
    said = checks.run(loracc, LDL, "--weights", model.folder, "-o", scratch / "none", *model.options, "--lora", "q,v", fails=2) or ""
    checks.that("train it with --train pooler" in said, "what the checkpoint lacks has to be trained")
    adapter, metrics = model.train("values-train", data, data, "--lora", "all-linear", "--train", "pooler")
    first, last = metrics[0]["validation_loss"], metrics[-1]["validation_loss"]
    checks.that(last < 0.5 * first and "accuracy" not in metrics[-1], "values are learned", f"squared error {first:.3f} to {last:.3f}")
    program = model.compile("values", "--merge", adapter)
    answer = json.loads(checks.run(program, "--evaluate", data, "--json") or "{}")
    checks.within(abs(answer["squared_error"] - last), 1e-5, "the merged program has the same squared error")
    said = json.loads(checks.run(program, "very old", "--json") or "{}")
    checks.within(abs(said["value"] - float(model.logits(program, *ids_of("very old"))[0])), 1e-6, "the answer is the logit")


def hidden_words(loracc, scratch, checks):
    model = Encoder(loracc, "bert-mlm", scratch / "mlm", checks)
    data = scratch / "text.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in sentences(200, 4)))
    adapter, metrics = model.train("mlm-train", data, data, "--method", "full", steps=80)
    first, last = metrics[0]["validation_loss"], metrics[-1]["validation_loss"]
    checks.that(last < 0.8 * first, "hidden words are learned", f"loss {first:.3f} to {last:.3f}")
    program = model.compile("mlm", "--merge", adapter)
    said = json.loads(checks.run(program, "the [MASK] fin", "--json") or "{}")
    likely = softmax(model.logits(program, *ids_of("the [MASK] fin"))[2])
    best = np.argsort(-likely, kind="stable")[:5]
    checks.that([t["token"] for t in said["tokens"]] == [WORDS[i] if i < len(WORDS) else "" for i in best] and said["place"] == 2,
                "the likeliest words, in order", str(said))
    checks.within(float(np.abs(np.array([t["probability"] for t in said["tokens"]]) - likely[best]).max()), 1e-6, "their probabilities")
    checks.that("hides no word" in (checks.run(program, "the fin", fails=2) or ""), "a text without a mask is an error")


def states(loracc, scratch, checks):
    """A description that ends with the states: they leave the last norm, which is computed for the rows asked for only."""
    ldl, inputs, out = scratch / "states.ldl", scratch / "in", scratch / "out"
    ldl.write_text(LDL.read_text().split("    if masked {")[0] + "    output logits = x;\n}\n")
    given, expected = case(load(GOLDENS / "bert-mlm/inputs.safetensors"), "plain"), load(GOLDENS / "bert-mlm/expected.safetensors")
    save(inputs, plain(given))
    checks.run(loracc, ldl, "--weights", GOLDENS / "bert-mlm", "--batch", 4, "--length", 64, "-o", scratch / "states")
    checks.run(scratch / "states", "--logits", inputs, out)
    checks.within(error(load(out)["logits"], expected["plain.hidden.1"]), 1e-5, "states after the last layer")


def one_of_two(loracc, scratch, checks):
    """`output.dense` is how `attention.output.dense` ends, too: an adapter of one of them says which, and is read back."""
    golden, batches, out = GOLDENS / "bert-cls", scratch / "batches", scratch / "one"
    save(batches, plain(load(golden / "train_batches.safetensors")))
    command = loracc, LDL, "--weights", golden, "--batch", 4, "--length", 64, "-o", scratch / "one-train"
    checks.run(*command, "--method", "ia3")
    checks.run(scratch / "one-train", "--tensors", batches, "--steps", 1, "--out", out)
    checks.that(checks.run(*command, "--with", out) is not None, "factors on one of two modules whose names end alike")


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
        for part in states, one_of_two, classifier, regression, hidden_words:
            part(sys.argv[1], pathlib.Path(scratch), checks)
    checks.finish()


if __name__ == "__main__":
    main()
