"""Grouped attention with experts: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, GLM-4.5, K-EXAONE, MiniMax-M2, Grok-1."""

from __future__ import annotations

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config, Unread
from ..decoder import Decoder, Fact, prenorm, repeated, shapes
from ..experts import Experts, experts
from ..facts import activation, rotary, settings
from ..model import Model, trunk

FAMILY = "Mixtral, Qwen3-MoE, GLM-4.5 and other mixtures of experts"

READS = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe", "exaone_moe", "minimax_m2", "grok-1", "dbrx")

QK_NORM = {"qwen3_moe": "head", "olmoe": "width", "exaone_moe": "head", "minimax_m2": "width"}

LLAMA_LIKE = ("mixtral", "qwen2_moe", "qwen3_moe", "glm4_moe", "exaone_moe")
"""Types whose settings beside the sizes are recorded, as they are of traced models."""


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of grouped attention; some have a dense MLP, most have experts."""
    if kind == "dbrx":
        return _dbrx(c, base)
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads = c.integer("num_key_value_heads", default=heads if kind == "olmoe" else None)
    size = c.integer("head_dim", default=hidden // heads)
    bias = kind == "qwen2_moe" and c.flag("qkv_bias", default=True)
    bias = bias or (kind != "minimax_m2" and c.flag("attention_bias", default=False))
    out_bias = kind in ("qwen3_moe", "olmoe") and c.flag("attention_bias", default=False)
    qk_norm = QK_NORM.get(kind, "")
    if kind == "glm4_moe":
        qk_norm = "head" if c.flag("use_qk_norm", default=False) else ""
    a = Attention(heads, kv_heads, size, bias, out_bias, qk_norm)
    window, kinds = _windows(kind, c, layers)
    style = base.of(hidden=hidden, mlp="moe" if kind == "grok-1" else "mlp")
    dense = _dense(kind, c, layers)
    ffn = c.integer("intermediate_size")
    mlps = {False: experts(style, _experts(kind, c, ffn)), True: gated_mlp(style, ffn)}
    build = {}
    for word, plain in dict.fromkeys(zip(kinds, dense, strict=True)):
        sees = window if word == "sliding_attention" else 0
        build[word, plain] = prenorm(style, attention(style, a.seeing(sees)), mlps[plain])
    if kind == "grok-1":  # norms behind attention and experts too (xai-org/grok-1, model.py)
        from ..decoder import sandwich

        build = {key: sandwich(style, attention(style, a), mlps[key[1]]) for key in build}
    tied = c.flag("tie_word_embeddings", default=kind == "grok-1")
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn)
    e = _experts(kind, c, ffn)
    facts |= {"experts": e.count, "top_k": e.top_k}
    if kind in LLAMA_LIKE:
        facts |= _settings(kind, c, a, window, kinds)
    blocks = repeated(tuple(zip(kinds, dense, strict=True)), build)
    predicts = blocks[-1] if c.integer("num_nextn_predict_layers", "num_mtp_layers", default=0) else ()
    limit = c.integer("max_position_embeddings", default=2048)
    return Decoder(style, c.integer("vocab_size"), tied, blocks, facts, limit, predicts=predicts)


def _dbrx(c: Config, base: Style) -> Decoder:
    """DBRX: packed projections, layer norms without a shift, experts in all layers."""
    hidden, layers, heads = c.integer("d_model"), c.integer("n_layers"), c.integer("n_heads")
    inside, ffn = c.table("attn_config"), c.table("ffn_config")
    sizes = Config(c.fields | {"num_hidden_layers": layers, "hidden_size": hidden} | inside | ffn)
    kv_heads, width = sizes.integer("kv_n_heads"), sizes.integer("ffn_hidden_size")
    style = base.of(hidden=hidden, norm="flat", attention="norm_attn_norm.attn", mlp="ffn")
    a = Attention(heads, kv_heads, hidden // heads, packed=True)
    e = Experts(sizes.integer("moe_num_experts"), sizes.integer("moe_top_k"), width, gate_name="router.layer")
    block = prenorm(style, attention(style, a), experts(style, e))
    tied = c.flag("tie_word_embeddings", default=False)
    facts = shapes(sizes, "dbrx", tied=tied, heads=heads, kv_heads=kv_heads, size=hidden // heads, ffn=width)
    facts |= {"experts": e.count, "top_k": e.top_k}
    return Decoder(
        style,
        c.integer("vocab_size"),
        tied,
        (block,) * layers,
        facts,
        c.integer("max_seq_len", default=2048),
        embedding="transformer.wte",
        layers="transformer.blocks",
        final_norm="transformer.norm_f",
    )


def _settings(kind: str, c: Config, a: Attention, window: int, kinds: tuple[str, ...]) -> dict[str, Fact]:
    turned = rotary(c, base=1e6 if kind == "mixtral" else 10000.0, share=0.5 if kind == "glm4_moe" else None)
    return settings(
        c,
        eps=1e-6 if kind in ("qwen2_moe", "qwen3_moe") else 1e-5,
        qkv_bias=a.qkv_bias,
        out_bias=a.out_bias,
        qk_norm=a.qk_norm,
        activation=activation(c),
        turned=turned,
        window=window,
        windowed=kinds.count("sliding_attention"),
        scales={"router_aux_loss_coef": 0.001} if kind in ("mixtral", "qwen2_moe", "qwen3_moe") else None,
    )


def _windows(kind: str, c: Config, layers: int) -> tuple[int, tuple[str, ...]]:
    """The window, and the kind of attention of each layer."""
    if kind == "exaone_moe" and "sliding_window" in c.given and not c.has("sliding_window"):
        return 0, ("full_attention",) * layers
    if kind == "exaone_moe":
        every = c.integer("sliding_window_pattern", default=4) if not c.has("layer_types") else 1
        default = tuple("sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers))
        return c.integer("sliding_window", default=4096), c.kinds("layer_types", layers, default)
    if kind in ("qwen2_moe", "qwen3_moe"):
        c.refuse(use_sliding_window=False)
    elif kind == "mixtral":
        c.refuse(sliding_window=None)
    return 0, ("full_attention",) * layers


def _dense(kind: str, c: Config, layers: int) -> tuple[bool, ...]:
    """Which layers have no experts."""
    if kind in ("glm4_moe", "exaone_moe"):
        first = c.integer("first_k_dense_replace", default=1)
        default = tuple("dense" if i < first else "sparse" for i in range(layers))
        return tuple(word == "dense" for word in c.kinds("mlp_layer_types", layers, default))
    if kind in ("qwen2_moe", "qwen3_moe"):
        plain, step = c.indices("mlp_only_layers"), c.integer("decoder_sparse_step", default=1)
        return tuple(i in plain or (i + 1) % step != 0 for i in range(layers))
    return (False,) * layers


def _experts(kind: str, c: Config, ffn: int) -> Experts:
    count = c.integer("num_local_experts", "num_experts", "n_routed_experts")
    top_k = c.integer("num_experts_per_tok", default=2 if kind == "mixtral" else None)
    if not 1 <= top_k <= count:
        raise Unread(f"{top_k} of {count} experts")
    if kind in ("mixtral", "olmoe", "minimax_m2", "grok-1"):
        return Experts(count, top_k, ffn)
    width = c.integer("moe_intermediate_size")
    if kind == "qwen2_moe":
        shared = c.integer("shared_expert_intermediate_size")
        return Experts(count, top_k, width, shared, shared_gate=True, shared_name="shared_expert")
    if kind == "qwen3_moe":
        return Experts(count, top_k, width)
    shared = c.integer("n_shared_experts", "num_shared_experts", default=1) * width
    return Experts(count, top_k, width, shared, wide_scores=True)


_QWEN3 = {
    "model_type": "qwen3_moe",
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 40960,
}
_GLM = {
    "model_type": "glm4_moe",
    "head_dim": 128,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
    "attention_bias": True,
    "num_nextn_predict_layers": 1,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-5,
}
_GLM_FULL = (
    trunk(
        92,
        5120,
        96,
        8,
        12288,
        151552,
        moe_intermediate_size=1536,
        n_routed_experts=160,
        first_k_dense_replace=3,
        use_qk_norm=True,
    )
    | _GLM
)
_GLM_AIR = (
    trunk(46, 4096, 96, 8, 10944, 151552, moe_intermediate_size=1408, n_routed_experts=128, first_k_dense_replace=1)
    | _GLM
)
_EXAONE = {
    "model_type": "exaone_moe",
    "head_dim": 128,
    "moe_intermediate_size": 2048,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "sliding_window": 128,
    "sliding_window_pattern": 4,
    "num_nextn_predict_layers": 1,
}
_M2 = trunk(
    62, 3072, 48, 8, 1536, 200064, model_type="minimax_m2", head_dim=128, num_local_experts=256, num_experts_per_tok=8
)

MODELS = (
    Model(
        "mixtral-8x22b",
        ("mistralai/Mixtral-8x22B-v0.1",),
        trunk(56, 6144, 48, 8, 16384, 32000, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2),
        "141 B",
        "39 B",
    ),
    Model(
        "qwen3-30b-a3b",
        ("Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-VL-30B-A3B", "Qwen/Qwen3-Omni-30B-A3B", "Qwen/Qwen3-Coder-30B-A3B"),
        trunk(48, 2048, 32, 4, 6144, 151936, moe_intermediate_size=768) | _QWEN3,
        "30.5 B",
        "3.3 B",
    ),
    Model(
        "qwen3-235b-a22b",
        ("Qwen/Qwen3-235B-A22B", "Qwen/Qwen3-VL-235B-A22B"),
        trunk(94, 4096, 64, 4, 12288, 151936, moe_intermediate_size=1536) | _QWEN3,
        "235 B",
        "22 B",
    ),
    Model(
        "qwen3-coder-480b-a35b",
        ("Qwen/Qwen3-Coder-480B-A35B",),
        trunk(62, 6144, 96, 8, 8192, 151936, moe_intermediate_size=2560) | _QWEN3 | {"num_experts": 160},
        "480 B",
        "35 B",
    ),
    Model(
        "qwen2-57b-a14b",
        ("Qwen/Qwen2-57B-A14B",),
        trunk(
            28,
            3584,
            28,
            4,
            18944,
            151936,
            model_type="qwen2_moe",
            num_experts=64,
            num_experts_per_tok=8,
            moe_intermediate_size=2560,
            shared_expert_intermediate_size=20480,
        ),
        "57.4 B",
        "14 B",
    ),
    Model(
        "qwen1.5-moe-a2.7b",
        ("Qwen/Qwen1.5-MoE-A2.7B",),
        trunk(
            24,
            2048,
            16,
            16,
            5632,
            151936,
            model_type="qwen2_moe",
            num_experts=60,
            num_experts_per_tok=4,
            moe_intermediate_size=1408,
            shared_expert_intermediate_size=5632,
        ),
        "14.3 B",
        "2.7 B",
    ),
    Model(
        "olmoe-1b-7b",
        ("allenai/OLMoE-1B-7B-0924",),
        trunk(16, 2048, 16, 16, 1024, 50304, model_type="olmoe", num_experts=64, num_experts_per_tok=8),
        "6.92 B",
        "1.3 B",
    ),
    Model("glm-4.5", ("zai-org/GLM-4.5", "zai-org/GLM-4.6", "zai-org/GLM-4.7"), _GLM_FULL, "355 B", "32 B"),
    Model("glm-4.5-air", ("zai-org/GLM-4.5-Air", "zai-org/GLM-4.5V", "zai-org/GLM-4.6V"), _GLM_AIR, "106 B", "12 B"),
    Model(
        "k-exaone-236b-a23b",
        ("LGAI-EXAONE/K-EXAONE-236B-A23B",),
        trunk(48, 6144, 64, 8, 18432, 153600, num_experts=128) | _EXAONE,
        "236 B",
        "23 B",
    ),
    Model(
        "dbrx",
        ("databricks/dbrx-base",),
        {
            "model_type": "dbrx",
            "d_model": 6144,
            "n_layers": 40,
            "n_heads": 48,
            "vocab_size": 100352,
            "max_seq_len": 32768,
            "attn_config": {"kv_n_heads": 8, "clip_qkv": 8, "rope_theta": 500000.0},
            "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4},
        },
        "132 B",
        "36 B",
    ),
    Model(
        "minimax-m2", ("MiniMaxAI/MiniMax-M2", "MiniMaxAI/MiniMax-M2.5", "MiniMaxAI/MiniMax-M2.7"), _M2, "229 B", "10 B"
    ),
    Model(
        "grok-1",
        ("xai-org/grok-1", "hpcai-tech/grok-1"),
        trunk(64, 6144, 48, 8, 32768, 131072, model_type="grok-1", num_experts=8, num_experts_per_tok=2),
        "314 B",
        "86 B",
        "xai-org/grok-1, run.py",
        8192,
    ),
)
