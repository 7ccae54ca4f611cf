"""The models of the benchmarks: families at base size, with as many layers as asked for, and SmolLM2 as it is; random weights."""

DROPOUTS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def gpt2(layers, **more):
    return {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": layers, "n_positions": 1024, "vocab_size": 50257,
            "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0} | more


def llama(layers):
    return {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": layers, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152, "rms_norm_eps": 1e-5, "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}, "tie_word_embeddings": True}


def encoder(kind, layers, vocabulary, positions=512, **more):
    return {"model_type": kind, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": layers, "num_attention_heads": 12,
            "vocab_size": vocabulary, "max_position_embeddings": positions, "pad_token_id": 0} | DROPOUTS | more


def deberta(kind, layers, vocabulary, **more):
    return encoder(kind, layers, vocabulary, relative_attention=True, position_biased_input=False, pos_att_type=["c2p", "p2c"],
                   type_vocab_size=0, layer_norm_eps=1e-7, max_relative_positions=-1, **more)


def deberta_v2(layers, **more):
    return deberta("deberta-v2", layers, 128100, position_buckets=256, share_att_key=True, norm_rel_ebd="layer_norm", **more)


# name -> (description in examples/, config of so many layers)
MODELS = {
    "gpt2": ("gpt2", gpt2),
    "gpt3": ("gpt3", lambda layers: gpt2(layers, n_positions=2048, window_size=256, attention_layers=(["global", "local"] * layers)[:layers])),
    "llama": ("llama", llama),
    "bert": ("bert", lambda layers: encoder("bert", layers, 30522)),
    "roberta": ("roberta", lambda layers: encoder("roberta", layers, 50265, 514, pad_token_id=1, type_vocab_size=1)),
    "deberta": ("deberta", lambda layers: deberta("deberta", layers, 50265)),
    "deberta-v2": ("deberta-v2", lambda layers: deberta_v2(layers, conv_kernel_size=3, conv_act="gelu")),
    "deberta-v3": ("deberta-v2", deberta_v2),
    "smollm2": ("llama", lambda layers: llama(30)),
}
