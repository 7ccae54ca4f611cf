"""Adapters between our programs and PEFT, both ways, on the small models of tests/data/goldens.

    interchange.py [MODEL...]      folders of tests/data/goldens (gpt2 gpt2-odd llama llama-odd)

Ours: our training program writes an adapter; PEFT loads it, computes the same logits as our programs, and saves the same tensors.
Theirs: PEFT writes an adapter; our programs compute the same logits, with it beside the base and merged, and save the same tensors.
Settings of PEFT that the compiler refuses are listed with its message; they count neither as passed nor as failed."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from common import GOLDENS, Checks, case, error, load, plain, save
from settings import OURS, THEIRS

LOGITS = 3e-5    # of the largest logit
VISIBLE = 1e-3   # what an adapter has to change at least, or the comparison says nothing


class Model:
    def __init__(self, name, scratch, checks):
        self.name, self.folder, self.scratch, self.checks, self.refused, self.worst = name, GOLDENS / name, scratch, checks, 0, 0
        config = json.loads((self.folder / "config.json").read_text())
        self.ldl, self.tied = ROOT / "examples" / f"{config['model_type']}.ldl", config["tie_word_embeddings"]
        self.given = case(load(self.folder / "inputs.safetensors"), "adapter")
        self.mask = self.given["attention_mask"].astype(bool)
        save(scratch / "in", plain(self.given))
        save(scratch / "batches", plain(load(self.folder / "train_batches.safetensors")))
        self.plain = self.peft_logits(self.base())

    def base(self):
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32, attn_implementation="eager").eval()

    def peft_logits(self, model):
        with torch.no_grad():
            ids, mask = (torch.from_numpy(self.given[k].astype(np.int64)) for k in ("input_ids", "attention_mask"))
            return model(input_ids=ids, attention_mask=mask).logits.numpy()

    def refusal(self, program, *options):
        """What the compiler says; nothing if it compiles."""
        done = subprocess.run([ROOT / "build/release/loracc", self.ldl, "--weights", self.folder, "--target", "generic", "--batch", "4",
                               "--length", "61", *options, "-o", self.scratch / program], capture_output=True, text=True, timeout=600)
        said = [line for line in done.stderr.splitlines() if "error: " in line]
        return " ".join(said).replace(f"{self.scratch}/", "") or f"exit {done.returncode}" if done.returncode else ""

    def compile(self, what, program, *options):
        said = self.refusal(program, *options)
        return not said or self.checks.that(False, f"{what}: compiles {options[0]}", said)

    def train(self, folder, steps, rate):
        return self.checks.run(self.scratch / "train", "--tensors", self.scratch / "batches", "--steps", steps, "--lr", rate, "--warmup", 2,
                               "--out", folder) is not None

    def load_peft(self, what, folder, warns):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                model = peft.PeftModel.from_pretrained(self.base(), folder).eval()
            except Exception as problem:
                self.checks.that(False, f"{what}: PEFT loads it", repr(problem)[:300])
                return None
        said = [str(w.message) for w in said if issubclass(w.category, UserWarning) and not (warns and warns in str(w.message))]
        self.checks.that(not said, f"{what}: PEFT loads it", " ".join(said)[:300])
        return model

    def same_logits(self, what, folder, model, unmergeable):
        """Our programs on the adapter in `folder` beside PEFT's model."""
        reference = self.peft_logits(model)
        changed = error(reference, self.plain, self.mask)
        if changed < VISIBLE:
            self.checks.that(False, f"{what}: it shows in the logits", f"{changed:.1e}")
        for way, words in ("--with", "logits beside the base"), ("--merge", "logits merged"):
            if way == "--merge" and unmergeable:
                said = self.refusal("program", way, folder)
                self.checks.that(unmergeable in said, f"{what}: refused to be merged, as it cannot be", said)
            elif self.compile(what, "program", way, folder):
                if self.checks.run(self.scratch / "program", "--logits", self.scratch / "in", self.scratch / "out") is not None:
                    off = error(load(self.scratch / "out")["logits"], reference, self.mask)
                    self.worst = max(self.worst, off)
                    self.checks.within(off, LOGITS, f"{what}: {words}")

    def same_tensors(self, what, first, second):
        """Without what PEFT writes and does not need: the frozen table beside an embedding's adapter, biases of saved modules again."""
        a, b = ({k: v.float() for k, v in load_file(f / "adapter_model.safetensors").items()
                 if not k.endswith("base_layer.weight") and ".modules_to_save." not in k and ".original_module." not in k} for f in (first, second))
        off = sorted(set(a) ^ set(b)) + [k for k in a if k in b and (a[k].shape != b[k].shape or not torch.equal(a[k], b[k]))]
        self.checks.that(a and not off, f"{what}: the same {len(a)} tensors saved again", ", ".join(off[:4]))

    def ours(self, number, options, unmergeable=None, warns=None):
        what, folder, again = f"{self.name} {options}", self.scratch / f"ours{number}", self.scratch / f"ours{number}-again"
        if not self.compile(what, "train", *options.split()) or not self.train(folder, 10, 0.01):
            return
        for_peft = folder / "peft" if (folder / "peft").exists() else folder
        model = self.load_peft(what, for_peft, warns)
        if model is None:
            return
        self.same_logits(what, folder, model, unmergeable)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save_pretrained(again)
        self.same_tensors(what, for_peft, again)

    def make(self, folder, config, method="LoraConfig", dtype=None, **saving):
        """An adapter by PEFT, all its tensors random."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = peft.get_peft_model(self.base(), getattr(peft, method)(task_type="CAUSAL_LM", **config))
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if parameter.requires_grad:
                        parameter.mul_("lora_" not in name).add_(0.1 * torch.randn_like(parameter))
            model.save_pretrained(folder, **saving)
        if dtype:
            file = folder / "adapter_model.safetensors"
            save_file({k: v.to(dtype) for k, v in load_file(file).items()}, file)

    def theirs(self, number, what, config, refused=None, unmergeable=None, warns=None, **making):
        what, folder, again = f"{self.name} PEFT's {what}", self.scratch / f"theirs{number}", self.scratch / f"theirs{number}-again"
        torch.manual_seed(number)
        self.make(folder, config, **making)
        said = self.refusal("program", "--with", folder) if refused else ""
        if said and refused in said:
            self.refused += 1
            print(f"refused {what}: {said}", flush=True)
            return
        model = self.load_peft(what, folder, warns)
        if model is None:
            return
        self.same_logits(what, folder, model, unmergeable)
        if self.compile(what, "train", "--adapter", folder) and self.train(again, 2, 0):
            self.same_tensors(what, folder, again)


def main():
    names, checks, refused, worst = sys.argv[1:] or ["gpt2", "gpt2-odd", "llama", "llama-odd"], Checks(), 0, 0
    transformers.utils.logging.disable_progress_bar()
    for name in names:
        with tempfile.TemporaryDirectory(prefix="loracc-") as scratch:
            model = Model(name, pathlib.Path(scratch), checks)
            kinds = {name.split("-")[0], "tied" if model.tied else "untied"}
            for number, (kind, *row, how) in enumerate(OURS + THEIRS):
                if set(kind.split()) <= kinds:
                    (model.ours if len(row) == 1 else model.theirs)(number, *row, **how)
            refused, worst = refused + model.refused, max(worst, model.worst)
    print(f"largest difference of logits {worst:.1e}; {refused} settings refused")
    checks.finish()


if __name__ == "__main__":
    main()
