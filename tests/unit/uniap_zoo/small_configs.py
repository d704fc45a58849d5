"""A small configuration of every model type that the zoo reads, with each kind of layer that the type has."""

from __future__ import annotations

from typing import Any

TRUNK: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "pad_token_id": None,
}
LATENT = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "first_k_dense_replace": 1,
}
MIXED = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
DELTA = {
    "head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
SHARED = MIXED | {"num_experts": 8, "shared_expert_intermediate_size": 16}
WINDOW = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
INDEX = {"index_head_dim": 8, "index_n_heads": 4, "index_topk": 16}
STATES = {"mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 2, "chunk_size": 16}

LIKE_TRACED: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "mistral": {"head_dim": 16, "sliding_window": None},
    "ministral": {"head_dim": 16, **WINDOW},
    "ministral3": {"head_dim": 16},
    "smollm3": {},
    "granite": {},
    "phi3": {},
    "olmo2": {},
    "olmo3": WINDOW,
    "exaone4": {"sliding_window": 16, "sliding_window_pattern": 2},
    "gemma": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, **WINDOW},
    "nemotron": {},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"head_dim": 16, "num_experts": 8, "mlp_only_layers": [0], **MIXED},
    "olmoe": {"num_experts": 8, "num_experts_per_tok": 2},
    "minimax_m2": {"head_dim": 16, "num_local_experts": 8, "num_experts_per_tok": 2},
    "glm4_moe": {
        "head_dim": 16,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "use_qk_norm": True,
        "attention_bias": True,
        **MIXED,
    },
    "exaone_moe": {"sliding_window": 16, "sliding_window_pattern": 2, "num_experts": 8, **MIXED},
    "deepseek_v2": {**LATENT, "n_shared_experts": 2, "q_lora_rank": None, **MIXED},
    "deepseek_v3": {**LATENT, "n_shared_experts": 2, "n_group": 2, "topk_group": 1, **MIXED},
}
"""Types that transformers runs as training frameworks do: parameters, FLOPs and kept bytes are those of a trace."""

COUNTED: dict[str, dict[str, Any]] = {
    "gemma2": {"head_dim": 16, **WINDOW},
    "gpt_oss": {"head_dim": 16, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 16},
    "qwen2_moe": {**SHARED, "decoder_sparse_step": 2},
    "llama4_text": {
        "head_dim": 16,
        "intermediate_size_mlp": 40,
        "num_local_experts": 4,
        "interleave_moe_layer_step": 2,
        "num_hidden_layers": 4,
        "attention_chunk_size": 16,
    },
    "minimax": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "block_size": 16},
    "nemotron_h": {
        **MIXED,
        **STATES,
        "layers_block_type": ["mamba", "moe", "attention", "mlp"],
        "num_hidden_layers": 4,
        "head_dim": 16,
        "n_routed_experts": 8,
        "moe_shared_expert_intermediate_size": 24,
        "moe_latent_size": 12,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2, "state_size": 8, "n_groups": 2, "chunk_size": 16},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 8,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_n_groups": 2,
        "mamba_chunk_size": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 24,
    },
    "qwen3_next": {**DELTA, **SHARED},
    "qwen3_5_text": DELTA,
    "qwen3_5_moe_text": {**DELTA, **SHARED},
    "glm_moe_dsa": {**LATENT, **INDEX, "n_shared_experts": 1, "num_hidden_layers": 3, "index_topk_freq": 2, **MIXED},
    "deepseek_v32": {**LATENT, **INDEX, "n_shared_experts": 1, **MIXED},
    "glm4_moe_lite": {**LATENT, "n_shared_experts": 1, **MIXED},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": 2, "n_head": 4},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "gptj": {"n_layer": 2, "n_embd": 32, "n_head": 4, "rotary_dim": 4},
    "gpt_neox": {},
    "mpt": {"n_layers": 2, "d_model": 32, "n_heads": 4},
    "dbrx": {
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 500000.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
}
"""Types whose code in transformers is another than what trains them (scores written out, scans in loops, all experts
for all tokens), or has dropout: their parameters are those of its model."""


def small(kind: str) -> dict[str, Any]:
    """The fields of the small ``config.json`` of a type."""
    return TRUNK | {"model_type": kind} | (LIKE_TRACED | COUNTED)[kind]
