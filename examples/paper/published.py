"""Published models: description, sizes under the keys of config.json, and how many parameters they have, from elsewhere than this
compiler (None: not known).  An encoder is a classifier of two classes here."""
import paperlib


def gpt2(layers, d, heads, **more):
    return {"n_layer": layers, "n_embd": d, "n_head": heads} | more


def encoder(layers, d, heads, **more):
    return {"num_hidden_layers": layers, "hidden_size": d, "num_attention_heads": heads, "intermediate_size": 4 * d} | more


def deberta(layers, d, heads, **more):
    return encoder(layers, d, heads, relative_attention=True, position_biased_input=False, pos_att_type=["c2p", "p2c"],
                   max_relative_positions=-1) | more


def deberta_v2(layers, d, heads, **more):
    return deberta(layers, d, heads, vocab_size=128100, position_buckets=256, share_att_key=True, norm_rel_ebd="layer_norm",
                   **more)


def llama(d, layers, heads, kv, inner, vocab, **more):
    return {"hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
            "intermediate_size": inner, "vocab_size": vocab} | more


TIED, CONV = {"tie_word_embeddings": True}, {"conv_kernel_size": 3, "conv_act": "gelu", "attention_head_size": 64}
LONG = {"rope_theta": 5e5, "max_position_embeddings": 8192}
SCALED = LONG | {"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                                  "original_max_position_embeddings": 8192}}
QWEN2 = {"model_type": "qwen2", "rope_theta": 1e6, "max_position_embeddings": 32768}


def head(d, classes=2):
    """Of a BERT or DeBERTa: a pooler and a classifier, which the published counts of these bodies lack."""
    return d * d + d + classes * (d + 1)


MODELS = {  # name: description, config, parameters
    "distilgpt2": ("gpt2", gpt2(6, 768, 12), 81_912_576),
    "GPT-2 S": ("gpt2", gpt2(12, 768, 12), 124_439_808),
    "GPT-2 M": ("gpt2", gpt2(24, 1024, 16), 354_823_168),
    "GPT-2 L": ("gpt2", gpt2(36, 1280, 20), 774_030_080),
    "GPT-2 XL": ("gpt2", gpt2(48, 1600, 25), 1_557_611_200),
    "GPT-3 125M": ("gpt3", gpt2(12, 768, 12), 125_226_240),
    "GPT-3 350M": ("gpt3", gpt2(24, 1024, 16), 355_871_744),
    "GPT-3 760M": ("gpt3", gpt2(24, 1536, 16), 760_300_032),
    "GPT-3 1.3B": ("gpt3", gpt2(24, 2048, 24, head_dim=128), 1_517_123_584),
    "GPT-3 2.7B": ("gpt3", gpt2(32, 2560, 32), 2_651_553_280),
    "GPT-3 6.7B": ("gpt3", gpt2(32, 4096, 32), 6_658_404_352),
    "GPT-3 13B": ("gpt3", gpt2(40, 5140, 40, head_dim=128), None),
    "GPT-3 175B": ("gpt3", gpt2(96, 12288, 96), 174_604_259_328),
    "SmolLM2-135M": ("llama", llama(576, 30, 9, 3, 1536, 49152, **TIED), 134_515_008),
    "SmolLM2-360M": ("llama", llama(960, 32, 15, 5, 2560, 49152, **TIED), 361_821_120),
    "SmolLM2-1.7B": ("llama", llama(2048, 24, 32, 32, 8192, 49152, **TIED), 1_711_376_384),
    "TinyLlama-1.1B": ("llama", llama(2048, 22, 32, 4, 5632, 32000), 1_100_048_384),
    "LLaMA-7B": ("llama", llama(4096, 32, 32, 32, 11008, 32000), 6_738_415_616),
    "LLaMA-13B": ("llama", llama(5120, 40, 40, 40, 13824, 32000), 13_015_864_320),
    "LLaMA-30B": ("llama", llama(6656, 60, 52, 52, 17920, 32000), 32_528_943_616),
    "LLaMA-65B": ("llama", llama(8192, 80, 64, 64, 22016, 32000), 65_285_660_672),
    "Llama-2-70B": ("llama", llama(8192, 80, 64, 8, 28672, 32000), 68_976_648_192),
    "Llama-3-8B": ("llama", llama(4096, 32, 32, 8, 14336, 128256, **LONG), 8_030_261_248),
    "Llama-3-70B": ("llama", llama(8192, 80, 64, 8, 28672, 128256, **LONG), 70_553_706_496),
    "Llama-3.1-405B": ("llama", llama(16384, 126, 128, 8, 53248, 128256, **SCALED), 405_853_388_800),
    "Llama-3.2-1B": ("llama", llama(2048, 16, 32, 8, 8192, 128256, **SCALED | TIED), 1_235_814_400),
    "Llama-3.2-3B": ("llama", llama(3072, 28, 24, 8, 8192, 128256, **SCALED | TIED), 3_212_749_824),
    "Mistral-7B": ("llama", llama(4096, 32, 32, 8, 14336, 32000, model_type="mistral", sliding_window=4096), 7_241_732_096),
    "Qwen2.5-0.5B": ("llama", llama(896, 24, 14, 2, 4864, 151936, **QWEN2 | TIED), 494_032_768),
    "Qwen2.5-1.5B": ("llama", llama(1536, 28, 12, 2, 8960, 151936, **QWEN2 | TIED), 1_543_714_304),
    "Qwen2.5-7B": ("llama", llama(3584, 28, 28, 4, 18944, 152064, **QWEN2), 7_615_616_512),
    "MiniLM-L6": ("bert", encoder(6, 384, 12), 22_713_216 + 2 * 385),
    "BERT base": ("bert", encoder(12, 768, 12), 109_482_240 + 2 * 769),
    "BERT large": ("bert", encoder(24, 1024, 16), 335_141_888 + 2 * 1025),
    "RoBERTa base": ("roberta", encoder(12, 768, 12), 124_647_170),
    "RoBERTa large": ("roberta", encoder(24, 1024, 16), 355_361_794),
    "DeBERTa base": ("deberta", deberta(12, 768, 12), None),
    "DeBERTa large": ("deberta", deberta(24, 1024, 16), None),
    "DeBERTa xlarge": ("deberta", deberta(48, 1024, 16), None),
    "DeBERTa-v2 xlarge": ("deberta-v2", deberta_v2(24, 1536, 24, **CONV), 884_593_152 + head(1536)),
    "DeBERTa-v2 xxlarge": ("deberta-v2", deberta_v2(48, 1536, 24, **CONV), 1_564_549_632 + head(1536)),
    "DeBERTa-v3 xsmall": ("deberta-v2", deberta_v2(12, 384, 6), None),
    "DeBERTa-v3 small": ("deberta-v2", deberta_v2(6, 768, 12), None),
    "DeBERTa-v3 base": ("deberta-v2", deberta_v2(12, 768, 12), 183_831_552 + head(768)),
    "DeBERTa-v3 large": ("deberta-v2", deberta_v2(24, 1024, 16), 434_012_160 + head(1024)),
}


def plan(name, *options, length=32, **more):
    """What the compiler plans for a published model and one sequence; `more`: further keys of its config."""
    description, config, _ = MODELS[name]
    return paperlib.plan(description, "--config", paperlib.config(config | more), "--length", length, "--batch", 1, *options)
