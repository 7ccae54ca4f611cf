"""What interchange.py tries: options of loracc, and settings of PEFT's LoraConfig.

Each row starts with the models it is for: all of these words hold: gpt2, llama, tied, untied."""
import torch

TIED = {"unmergeable": "output head as well"}
LOOSE = {"warns": "ensure_weight_tying"}     # PEFT says that the head does not follow

OURS = [(kind, options, {}) for kind, options in (
    ("llama", "--lora q,v"),
    ("llama", "--lora q,k,v,o,gate,up,down --rank 3 --alpha 5"),
    ("llama", "--lora q_proj=6:9,mlp.down_proj=3"),
    ("llama", "--lora q,v --train norm"),
    ("llama", "--lora q --train norm,v"),
    ("llama untied", "--lora q,v --train head"),
    ("llama untied", "--lora q,head"),
    ("llama untied", "--lora embed"),
    ("llama", "--lora q,v --method lora:rslora=1"),
    ("llama", "--lora q=8:16,v=4"),
    ("llama", "--lora q,v --layers 1:2"),
    ("llama", "--lora q,v --method lora-fa"),
    ("llama untied", "--lora q,v --train embed"),
    ("", "--lora all-linear"),
    ("", "--lora all-linear --method lora:rslora=1 --rank 5 --dropout 0.1"),
    ("", "--lora o=4:8,up=2,down=6:3 --method lora:rslora=1"),
    ("", "--lora up,down --layers 0,1"),
    ("gpt2", "--lora c_attn"),
    ("gpt2", "--lora c_attn=8:16,mlp.c_proj=4"),
    ("gpt2", "--lora c_attn --layers 1:2"),
    ("gpt2", "--lora c_attn --method lora:bias=all"),
    ("gpt2", "--lora c_attn --method lora:bias=lora_only"),
    ("gpt2", "--lora c_attn --train norm"),
    ("gpt2", "--lora c_attn --train bias"),
    ("gpt2", "--lora c_attn --method lora:bias=all --train norm"),
    ("gpt2", "--lora position"),
    ("gpt2", "--lora c_attn --train position"),
    ("gpt2", "--lora q,v"),
    ("gpt2", "--lora k"),
    ("gpt2", "--lora q=8:16,v=4"),
    ("gpt2", "--lora q,v,o,up --rank 3"),
    ("gpt2", "--lora q,v --method lora:rslora=1"),
    ("gpt2", "--lora q,v --method lora:bias=all"),
    ("gpt2", "--lora q,v --layers 1:2"),
    ("gpt2", "--lora q,v --train norm"),
    ("gpt2", "--lora q=5:6,v=2,o=3 --method lora:rslora=1,bias=lora_only --train norm"),
)] + [("tied", "--lora embed", TIED | LOOSE), ("tied", "--lora up --train embed", TIED | LOOSE)]


def qv(**more):
    return {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 7} | more


def fused(**more):
    return {"target_modules": ["c_attn"], "r": 4, "lora_alpha": 7, "fan_in_fan_out": True} | more


def linear(**more):
    return {"target_modules": "all-linear", "r": 3, "lora_alpha": 8} | more


THEIRS = [
    ("llama", "q_proj, v_proj", qv(), {}),
    ("llama", "rsLoRA", qv(use_rslora=True), {}),
    ("llama", "patterns", qv(rank_pattern={"q_proj": 6, r"layers\.1\.self_attn\.v_proj": 3}, alpha_pattern={"v_proj": 5}), {}),
    ("llama", "rsLoRA with patterns", qv(use_rslora=True, rank_pattern={"^model.layers.0.self_attn.q_proj": 2, "v_pr.*": 5}), {}),
    ("llama", "regular expression", qv(target_modules=r".*layers\.[01]\.(self_attn\.(q|k)_proj|mlp\.(?!gate)\w+_proj)"), {}),
    ("llama", "paths", qv(target_modules=["model.layers.1.self_attn.q_proj", "layers.0.mlp.up_proj", "o_proj"]), {}),
    ("llama", "a norm saved", qv(modules_to_save=["norm"]), {}),
    ("llama", "norms of a kind saved", qv(modules_to_save=["input_layernorm"]), {}),
    ("llama", "a linear layer saved", qv(modules_to_save=["down_proj"]), {}),
    ("llama", "a module of several saved", qv(modules_to_save=["mlp"]), {}),
    ("llama", "a target that is saved", qv(target_modules=["q_proj", "o_proj"], modules_to_save=["o_proj"]), {}),
    ("llama untied", "the head saved", qv(modules_to_save=["lm_head"]), {}),
    ("llama untied", "embedding and head saved", qv(modules_to_save=["embed_tokens", "lm_head"]), {}),
    ("llama untied", "LoRA on embedding and head", qv(target_modules=["embed_tokens", "lm_head", "q_proj"]), {}),
    ("llama untied", "ranks above the width", linear(r=64), {}),
    ("llama tied", "the embedding saved", qv(modules_to_save=["embed_tokens"]), TIED | LOOSE),
    ("llama tied", "LoRA on the embedding", qv(target_modules=["embed_tokens", "q_proj"]), TIED | LOOSE),
    ("llama tied", "the head of a tied model saved", qv(modules_to_save=["lm_head"]), {"refused": "lm_head"}),
    ("llama tied", "LoRA on the head of a tied model", qv(target_modules=["lm_head", "q_proj"]), {"refused": "lm_head"}),
    ("llama tied", "tied training of the embedding", qv(modules_to_save=["embed_tokens"], ensure_weight_tying=True), {"refused": "lm_head"}),
    ("llama", "one layer", qv(layers_to_transform=1), {}),
    ("llama", "layers by pattern", qv(layers_to_transform=[0], layers_pattern="layers"), {}),
    ("llama", "a path beside layers", qv(target_modules=["model.layers.1.self_attn.q_proj", "v_proj"], layers_to_transform=[0]), {}),
    ("llama", "modules left out", linear(exclude_modules=["gate_proj", "layers.0.self_attn.k_proj"]), {}),
    ("llama", "modules left out by expression", qv(exclude_modules=r".*\.1\.self_attn\.v.*"), {}),
    ("llama", "orthogonal start", qv(init_lora_weights="orthogonal"), {}),
    ("llama", "PiSSA", qv(init_lora_weights="pissa"), {}),
    ("llama", "OLoRA", qv(init_lora_weights="olora"), {}),
    ("llama", "DoRA", qv(use_dora=True), {}),
    ("llama", "IA3", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}, {"method": "IA3Config"}),
    ("llama", "VeRA", {"target_modules": ["q_proj"]}, {"method": "VeraConfig"}),
    ("llama", "LoHa", {"target_modules": ["q_proj"]}, {"method": "LoHaConfig", "refused": "LOHA"}),
    ("llama", "biases on B", qv(lora_bias=True), {"refused": "lora_bias"}),
    ("llama", "trained tokens", qv(trainable_token_indices=[3, 5]), {"refused": "trainable_token_indices"}),
    ("llama", "layers repeated", qv(layer_replication=[[0, 2], [1, 2]]), {"refused": "layer_replication"}),
    ("llama", "the base's tables in the file", qv(), {"save_embedding_layers": True, "refused": "lm_head"}),
    ("", "all-linear", linear(), {}),
    ("", "all-linear, rsLoRA, no start", linear(use_rslora=True, init_lora_weights=False), {}),
    ("", "bfloat16 in the file", linear(), {"dtype": torch.bfloat16}),
    ("", "float16 in the file", linear(lora_dropout=0.1, init_lora_weights="gaussian"), {"dtype": torch.float16}),
    ("gpt2", "c_attn", fused(), {}),
    ("gpt2", "patterns", fused(target_modules=["c_attn", "c_proj", "c_fc"], rank_pattern={"attn.c_proj": 2, "c_fc": 5},
                               alpha_pattern={r".*\.1\.mlp\.c_proj": 3, "c_attn": 9}), {}),
    ("gpt2", "regular expression", fused(target_modules=r"transformer\.h\.\d+\.(attn\.c_attn|mlp\.c_proj)"), {}),
    ("gpt2", "biases", fused(bias="all"), {}),
    ("gpt2", "biases of targets", fused(target_modules=["c_attn", "mlp.c_proj"], bias="lora_only"), {}),
    ("gpt2", "biases and norms saved", fused(bias="all", modules_to_save=["ln_1", "ln_f"]), {}),
    ("gpt2", "norms saved", fused(modules_to_save=["ln_2", "ln_f"]), {}),
    ("gpt2", "a fused weight saved", fused(target_modules=["c_fc"], modules_to_save=["c_attn"]), {}),
    ("gpt2", "positions saved", fused(modules_to_save=["wpe"]), {}),
    ("gpt2", "LoRA on positions", fused(target_modules=["wpe", "c_fc"]), {}),
    ("gpt2", "the embedding saved", fused(modules_to_save=["wte"]), TIED | LOOSE),
    ("gpt2", "LoRA on the embedding", fused(target_modules=["wte"]), TIED | LOOSE),
    ("gpt2", "one layer", fused(layers_to_transform=[1]), {}),
    ("gpt2", "PiSSA", fused(init_lora_weights="pissa"), {}),
    ("llama", "PiSSA and DoRA", qv(init_lora_weights="pissa", use_dora=True), {}),
]
