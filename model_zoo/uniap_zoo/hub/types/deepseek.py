"""Latent attention: DeepSeek V2, V3 and V3.2, Kimi-K2, Moonlight, GLM-5, GLM-4.7-Flash."""

from __future__ import annotations

from ..blocks import Latent, Style, gated_mlp, latent_attention
from ..config import Config, Unread
from ..decoder import Decoder, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..facts import activation, settings
from ..model import Model, trunk

FAMILY = "DeepSeek, Kimi-K2, GLM-5 (latent attention)"

READS = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa", "glm4_moe_lite")

INDEXED = ("deepseek_v32", "glm_moe_dsa")


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of latent attention; the first have a dense MLP, the others experts."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    ranked = "q_lora_rank" in c.given and not c.has("q_lora_rank")
    rank = 0 if ranked else c.integer("q_lora_rank")
    plain, turned = c.integer("qk_nope_head_dim"), c.integer("qk_rope_head_dim")
    bias = c.flag("attention_bias", default=False)
    style = base.of(hidden=hidden)
    ffn = c.integer("intermediate_size")
    first = c.integer("first_k_dense_replace")
    default = tuple("dense" if i < first else "sparse" for i in range(layers))
    kinds = c.kinds("mlp_layer_types", layers, default)
    c.refuse(moe_layer_freq=1)
    indexers = _indexers(kind, c, layers)
    width, count = c.integer("moe_intermediate_size"), c.integer("n_routed_experts")
    top_k = c.integer("num_experts_per_tok")
    if not 1 <= top_k <= count:
        raise Unread(f"{top_k} of {count} experts")
    # V2 scores in the model's precision and by softmax, its successors in fp32 by sigmoid.
    shared = c.integer("n_shared_experts", default=0) * width
    mlps = {
        "dense": gated_mlp(style, ffn),
        "sparse": experts(style, Experts(count, top_k, width, shared, wide_scores=True)),
    }
    build = {}
    for word, indexer in dict.fromkeys(zip(kinds, indexers, strict=True)):
        if word not in mlps:
            raise Unread(f"layers of the kind {word!r}")
        a = Latent(heads, rank, c.integer("kv_lora_rank"), plain, turned, c.integer("v_head_dim"), bias, indexer)
        build[word, indexer] = prenorm(style, latent_attention(style, a), mlps[word])
    blocks = repeated(tuple(zip(kinds, indexers, strict=True)), build)
    tied = c.flag("tie_word_embeddings", default=False)
    # As in traced graphs, the head size is that of what turns.
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=heads, size=turned, ffn=ffn)
    facts |= {"experts": count, "top_k": top_k}
    if kind == "deepseek_v2" and not rank:
        facts |= settings(c, eps=1e-6, activation=activation(c))
    predicts = blocks[-1] if c.integer("num_nextn_predict_layers", "num_mtp_layers", default=0) else ()
    limit = c.integer("max_position_embeddings", default=2048)
    return Decoder(style, c.integer("vocab_size"), tied, blocks, facts, limit, predicts=predicts)


def _indexers(kind: str, c: Config, layers: int) -> tuple[tuple[int, int, int] | None, ...]:
    """Heads, width and picks of the indexer of each layer, ``None`` for layers that take another's picks."""
    if kind not in INDEXED:
        return (None,) * layers
    small = (c.integer("index_n_heads"), c.integer("index_head_dim"), c.integer("index_topk"))
    every, offset = max(1, c.integer("index_topk_freq", default=1)), c.integer("index_skip_topk_offset", default=2)
    default = tuple("full" if max(i - offset + 1, 0) % every == 0 else "shared" for i in range(layers))
    c.refuse(index_topk_pattern=None)
    words = c.kinds("indexer_types", layers, default)
    return tuple(small if word == "full" else (0, 0, small[2]) for word in words)


_V2 = {
    "model_type": "deepseek_v2",
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 163840,
}
_V3 = _V2 | {
    "model_type": "deepseek_v3",
    "q_lora_rank": 1536,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "num_nextn_predict_layers": 1,
}
_V3_FULL = trunk(61, 7168, 128, 128, 18432, 129280, n_routed_experts=256) | _V3 | {"first_k_dense_replace": 3}
_INDEX = {"index_n_heads": 64, "index_head_dim": 128, "index_topk": 2048}
_GLM5 = (
    trunk(78, 6144, 64, 64, 12288, 154880, n_routed_experts=256)
    | _V3
    | {
        "model_type": "glm_moe_dsa",
        "q_lora_rank": 2048,
        "qk_nope_head_dim": 192,
        "v_head_dim": 256,
        "first_k_dense_replace": 3,
        "index_n_heads": 32,
        "index_head_dim": 128,
        "index_topk": 2048,
        "max_position_embeddings": 202752,
    }
)
_GLM52 = _GLM5 | {"index_topk_freq": 4, "index_skip_topk_offset": 3, "max_position_embeddings": 1048576}
_FLASH = trunk(47, 2048, 20, 20, 10240, 154880, n_routed_experts=64, moe_intermediate_size=1536) | {
    "model_type": "glm4_moe_lite",
    "q_lora_rank": 768,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "v_head_dim": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 4,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 1,
}

_LITE = {"q_lora_rank": None, "n_routed_experts": 64, "moe_intermediate_size": 1408}

MODELS = (
    Model(
        "deepseek-v2-lite",
        ("deepseek-ai/DeepSeek-V2-Lite", "deepseek-ai/DeepSeek-Coder-V2-Lite-Base"),
        trunk(27, 2048, 16, 16, 10944, 102400) | _V2 | _LITE,
        "15.7 B",
        "2.4 B",
        "arXiv 2405.04434",
    ),
    Model(
        "deepseek-v2",
        ("deepseek-ai/DeepSeek-V2", "deepseek-ai/DeepSeek-V2.5"),
        trunk(60, 5120, 128, 128, 12288, 102400, q_lora_rank=1536, n_routed_experts=160, moe_intermediate_size=1536)
        | _V2,
        "236 B",
        "21 B",
        "arXiv 2405.04434",
    ),
    Model(
        "deepseek-v3",
        (
            "deepseek-ai/DeepSeek-V3",
            "deepseek-ai/DeepSeek-R1",
            "deepseek-ai/DeepSeek-V3.1",
            "deepseek-ai/DeepSeek-V3-0324",
        ),
        _V3_FULL,
        "671 B",
        "37 B",
        "arXiv 2412.19437",
    ),
    Model(
        "deepseek-v3.2",
        ("deepseek-ai/DeepSeek-V3.2",),
        _V3_FULL | _INDEX | {"model_type": "deepseek_v32"},
        "671 B",
        "37 B",
    ),
    Model(
        "kimi-k2",
        (
            "moonshotai/Kimi-K2-Instruct",
            "moonshotai/Kimi-K2-Base",
            "moonshotai/Kimi-K2-Thinking",
            "moonshotai/Kimi-K2.5",
            "moonshotai/Kimi-K2.6",
        ),
        trunk(61, 7168, 64, 64, 18432, 163840, n_routed_experts=384)
        | _V3
        | {"first_k_dense_replace": 1, "num_nextn_predict_layers": 0},
        "1.03 T",
        "32 B",
        "arXiv 2507.20534",
    ),
    Model(
        "moonlight-16b-a3b",
        ("moonshotai/Moonlight-16B-A3B", "moonshotai/Kimi-VL-A3B"),
        trunk(27, 2048, 16, 16, 11264, 163840)
        | _V3
        | _LITE
        | {"num_experts_per_tok": 6, "n_shared_experts": 2, "num_nextn_predict_layers": 0},
        "15.96 B",
        "3 B",
        "arXiv 2502.16982",
    ),
    Model("glm-5", ("zai-org/GLM-5", "zai-org/GLM-5.1"), _GLM5, "744 B", "40 B"),
    Model("glm-5.2", ("zai-org/GLM-5.2",), _GLM52, "744 B", "40 B"),
    Model("glm-4.7-flash", ("zai-org/GLM-4.7-Flash",), _FLASH, "30 B", "3 B"),
)
