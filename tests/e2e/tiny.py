"""A small LLaMA with a byte-level tokenizer, made here: random weights, every file a real checkpoint directory has."""
import json
import pathlib

import numpy as np
from common import save

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 160,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 272, "rms_norm_eps": 1e-5,
          "max_position_embeddings": 256, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True,
          "bos_token_id": 256, "eos_token_id": 257, "torch_dtype": "float32"}


def byte_alphabet():
    """The character that GPT-2's byte-level BPE (Radford et al., 2019) writes for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def tokenizer():
    special = ["<|begin|>", "<|end|>"]
    vocabulary = {c: i for i, c in enumerate(byte_alphabet())}
    added = [{"id": 256 + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, s in enumerate(special)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": vocabulary | {s: 256 + i for i, s in enumerate(special)}, "merges": []}}


def weights(config=CONFIG, seed=1):
    random = np.random.default_rng(seed)
    d, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (vocabulary, d), "model.norm.weight": (d,)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes |= {layer + "self_attn.q_proj.weight": (d, d), layer + "self_attn.k_proj.weight": (kv, d),
                   layer + "self_attn.v_proj.weight": (kv, d), layer + "self_attn.o_proj.weight": (d, d),
                   layer + "mlp.gate_proj.weight": (inner, d), layer + "mlp.up_proj.weight": (inner, d),
                   layer + "mlp.down_proj.weight": (d, inner), layer + "input_layernorm.weight": (d,),
                   layer + "post_attention_layernorm.weight": (d,)}
    return {name: np.ones(shape, np.float32) if len(shape) == 1 else
            (random.standard_normal(shape) * 0.08).astype(np.float32) for name, shape in shapes.items()}


def make(folder, config=CONFIG, seed=1):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|begin|>", "eos_token": "<|end|>"}))
    save(folder / "model.safetensors", weights(config, seed))
    return folder


def rows(count, seed=7):
    """Rows of prompt and completion, of very different lengths."""
    random = np.random.default_rng(seed)
    words = "tensor graph kernel tile adapter merge rank alpha loss gradient ö 東京 cache thread".split()
    text = lambda most: " ".join(random.choice(words, random.integers(1, most)))
    return [{"prompt": text(9) + " =", "completion": " " + text(14)} for _ in range(count)]


def write_rows(path, count, seed=7):
    pathlib.Path(path).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows(count, seed)))
    return path
