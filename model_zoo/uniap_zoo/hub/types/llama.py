"""Llama and decoders of its layer: Mistral, Ministral, SmolLM3, Granite, Qwen2, Qwen2.5 and Qwen3."""

from __future__ import annotations

from typing import Any

from ..blocks import Attention, Style, attention, gated_mlp
from ..config import Config, Unread
from ..decoder import Decoder, Fact, prenorm, repeated, shapes
from ..facts import activation, rotary, settings
from ..model import Model, trunk

FAMILY = "Llama, Mistral, Qwen2, Qwen3 and other dense decoders"

HEAD_SIZES = {"qwen3": 128, "ministral3": 128}
"""Widths of a head that a configuration may leave out, where it is not hidden / heads."""

EPSILONS = {"ministral3": 1e-5}

WINDOWED = ("mistral", "ministral", "ministral3")


def read(kind: str, c: Config, base: Style) -> Decoder:
    """Pre-norm layers of grouped attention and a gated MLP."""
    hidden, layers, heads = (c.integer(n) for n in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    kv_heads = c.integer("num_key_value_heads", default=heads if kind in ("llama", "granite", "ministral3") else None)
    size = c.integer("head_dim", default=HEAD_SIZES.get(kind, hidden // heads))
    all_bias = kind not in ("qwen2", *WINDOWED) and c.flag("attention_bias", default=False)
    mlp_bias = kind in ("llama", "granite", "smollm3") and c.flag("mlp_bias", default=False)
    a = Attention(heads, kv_heads, size, kind == "qwen2" or all_bias, all_bias, "head" if kind == "qwen3" else "")
    window, kinds = windows(kind, c, layers)
    style, ffn = base.of(hidden=hidden), c.integer("intermediate_size")
    mlp = gated_mlp(style, ffn, bias=mlp_bias)
    build = {}
    for word in dict.fromkeys(kinds):
        sees = window if word == "sliding_attention" else 0
        build[word] = prenorm(style, attention(style, a.seeing(sees)), mlp)
    tied = c.flag("tie_word_embeddings", default=kind == "smollm3")
    facts = shapes(c, kind, tied=tied, heads=heads, kv_heads=kv_heads, size=size, ffn=ffn) | settings(
        c,
        eps=EPSILONS.get(kind, 1e-6),
        qkv_bias=a.qkv_bias,
        out_bias=a.out_bias,
        mlp_bias=mlp_bias,
        qk_norm=a.qk_norm,
        activation=activation(c),
        turned=_turned(kind, c),
        window=window,
        windowed=kinds.count("sliding_attention"),
        scales={"attention_multiplier": 1.0} if kind == "granite" else None,
    )
    limit = c.integer("max_position_embeddings", default=2048)
    return Decoder(style, c.integer("vocab_size"), tied, repeated(kinds, build), facts, limit, scaled=kind == "granite")


def windows(kind: str, c: Config, layers: int) -> tuple[int, tuple[str, ...]]:
    """The window, and the kind of attention of each layer."""
    full = ("full_attention",) * layers
    if kind in WINDOWED:
        if kind != "ministral3" and "sliding_window" not in c.given:
            raise Unread("sliding_window is not given")  # transformers' default is one
        window = c.integer("sliding_window") if c.has("sliding_window") else 0
        every = ("sliding_attention",) * layers if window else full
        return window, c.kinds("layer_types", layers, every) if kind == "ministral" else every
    if kind == "smollm3":
        c.refuse(use_sliding_window=False)
    if kind in ("qwen2", "qwen3") and c.flag("use_sliding_window", default=False):
        first = c.integer("max_window_layers", default=28)
        default = tuple("sliding_attention" if i >= first else "full_attention" for i in range(layers))
        return c.integer("sliding_window", default=4096), c.kinds("layer_types", layers, default)
    return 0, full


YARN: dict[str, Fact] = {
    "rotary": "yarn",
    "rotary_base": 1000000.0,
    "rotary_factor": 16.0,
    "rotary_positions": 16384,
    "rotary_fast": 32.0,
    "rotary_slow": 1.0,
    "rotary_mscale": 1.0,
    "rotary_mscale_all": 1.0,
}
"""Rotary positions of Ministral 3 where the configuration says nothing."""


def _turned(kind: str, c: Config) -> dict[str, Fact]:
    if kind == "ministral3" and not (c.has("rope_parameters") or c.has("rope_scaling")):
        return YARN
    return rotary(c, base=2000000.0 if kind == "smollm3" else 10000.0)


READS = ("llama", "mistral", "ministral", "ministral3", "smollm3", "granite", "qwen2", "qwen3")

_LLAMA3: dict[str, Any] = {"model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 500000.0}
_LLAMA31: dict[str, Any] = _LLAMA3 | {
    "max_position_embeddings": 131072,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
_LLAMA32 = _LLAMA31 | {"tie_word_embeddings": True, "rope_scaling": _LLAMA31["rope_scaling"] | {"factor": 32.0}}
_QWEN2 = {"model_type": "qwen2", "rope_theta": 1000000.0, "max_position_embeddings": 32768}
_QWEN3 = {"model_type": "qwen3", "head_dim": 128, "rope_theta": 1000000.0, "max_position_embeddings": 40960}
_TIED = {"tie_word_embeddings": True}
_MISTRAL = {"model_type": "mistral", "rms_norm_eps": 1e-5, "sliding_window": None, "max_position_embeddings": 32768}
_NEMO = _MISTRAL | {"head_dim": 128, "rope_theta": 1000000.0, "max_position_embeddings": 131072}
_MINISTRAL3 = {"model_type": "ministral3", "rms_norm_eps": 1e-5, "head_dim": 128, "max_position_embeddings": 262144}

_L31_8B = trunk(32, 4096, 32, 8, 14336, 128256) | _LLAMA31
_L31_70B = trunk(80, 8192, 64, 8, 28672, 128256) | _LLAMA31
_L31_405B = trunk(126, 16384, 128, 8, 53248, 128256) | _LLAMA31


def _qwen(name: str, hub: str, sizes: tuple[int, ...], config: dict[str, object], figure: str, *more: str) -> Model:
    return Model(name, (f"Qwen/{hub}", *(f"Qwen/{each}" for each in more)), trunk(*sizes) | config, figure)


MODELS = (
    Model(
        "llama3.1-8b",
        ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        _L31_8B,
        "8.03 B",
        sequence=8192,
    ),
    Model(
        "llama3.1-70b", ("meta-llama/Llama-3.1-70B", "meta-llama/Meta-Llama-3.1-70B"), _L31_70B, "70.6 B", sequence=8192
    ),
    Model(
        "llama3.1-405b",
        ("meta-llama/Llama-3.1-405B", "meta-llama/Meta-Llama-3.1-405B"),
        _L31_405B,
        "406 B",
        sequence=8192,
    ),
    Model(
        "llama3.3-70b",
        ("meta-llama/Llama-3.3-70B-Instruct", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"),
        _L31_70B,
        "70.6 B",
        sequence=8192,
    ),
    Model(
        "llama3.2-1b",
        ("meta-llama/Llama-3.2-1B",),
        trunk(16, 2048, 32, 8, 8192, 128256) | _LLAMA32,
        "1.24 B",
        sequence=8192,
    ),
    Model(
        "llama3.2-3b",
        ("meta-llama/Llama-3.2-3B",),
        trunk(28, 3072, 24, 8, 8192, 128256) | _LLAMA32,
        "3.21 B",
        sequence=8192,
    ),
    Model(
        "tinyllama-1.1b",
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0",),
        trunk(22, 2048, 32, 4, 5632, 32000, model_type="llama", rms_norm_eps=1e-5),
        "1.1 B",
        sequence=2048,
    ),
    Model(
        "codellama-7b",
        ("codellama/CodeLlama-7b-hf",),
        trunk(32, 4096, 32, 32, 11008, 32016, model_type="llama", rms_norm_eps=1e-5, rope_theta=1000000.0),
        "6.74 B",
    ),
    Model(
        "yi-6b",
        ("01-ai/Yi-6B",),
        trunk(32, 4096, 32, 4, 11008, 64000, model_type="llama", rope_theta=5000000.0),
        "6.06 B",
    ),
    Model(
        "yi-34b",
        ("01-ai/Yi-34B",),
        trunk(60, 7168, 56, 8, 20480, 64000, model_type="llama", rope_theta=5000000.0),
        "34.4 B",
    ),
    Model(
        "smollm2-135m",
        ("HuggingFaceTB/SmolLM2-135M",),
        trunk(
            30,
            576,
            9,
            3,
            1536,
            49152,
            model_type="llama",
            rms_norm_eps=1e-5,
            rope_theta=100000.0,
            tie_word_embeddings=True,
        ),
        "135 M",
        sequence=2048,
    ),
    Model(
        "smollm3-3b",
        ("HuggingFaceTB/SmolLM3-3B",),
        trunk(36, 2048, 16, 4, 11008, 128256, model_type="smollm3", rope_theta=5000000.0),
        "3.08 B",
    ),
    _qwen("qwen2-0.5b", "Qwen2-0.5B", (24, 896, 14, 2, 4864, 151936), _QWEN2 | _TIED, "0.49 B"),
    _qwen("qwen2-1.5b", "Qwen2-1.5B", (28, 1536, 12, 2, 8960, 151936), _QWEN2 | _TIED, "1.54 B"),
    _qwen("qwen2-7b", "Qwen2-7B", (28, 3584, 28, 4, 18944, 152064), _QWEN2, "7.62 B"),
    _qwen("qwen2-72b", "Qwen2-72B", (80, 8192, 64, 8, 29568, 152064), _QWEN2, "72.7 B"),
    _qwen("qwen2.5-0.5b", "Qwen2.5-0.5B", (24, 896, 14, 2, 4864, 151936), _QWEN2 | _TIED, "0.49 B"),
    _qwen(
        "qwen2.5-1.5b",
        "Qwen2.5-1.5B",
        (28, 1536, 12, 2, 8960, 151936),
        _QWEN2 | _TIED,
        "1.54 B",
        "Qwen2.5-Math-1.5B",
        "Qwen2.5-Coder-1.5B",
    ),
    _qwen("qwen2.5-3b", "Qwen2.5-3B", (36, 2048, 16, 2, 11008, 151936), _QWEN2 | _TIED, "3.09 B", "Qwen2.5-VL-3B"),
    _qwen(
        "qwen2.5-7b",
        "Qwen2.5-7B",
        (28, 3584, 28, 4, 18944, 152064),
        _QWEN2,
        "7.62 B",
        "Qwen2.5-VL-7B",
        "Qwen2.5-Omni-7B",
    ),
    _qwen("qwen2.5-14b", "Qwen2.5-14B", (48, 5120, 40, 8, 13824, 152064), _QWEN2, "14.8 B", "Qwen2.5-Coder-14B"),
    _qwen(
        "qwen2.5-32b",
        "Qwen2.5-32B",
        (64, 5120, 40, 8, 27648, 152064),
        _QWEN2,
        "32.8 B",
        "Qwen2.5-VL-32B",
        "Qwen2.5-Coder-32B",
        "QwQ-32B",
    ),
    _qwen(
        "qwen2.5-72b",
        "Qwen2.5-72B",
        (80, 8192, 64, 8, 29568, 152064),
        _QWEN2,
        "72.7 B",
        "Qwen2.5-VL-72B",
        "Qwen2.5-Math-72B",
    ),
    Model(
        "r1-distill-qwen-1.5b",
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",),
        trunk(28, 1536, 12, 2, 8960, 151936) | _QWEN2,
        "1.78 B",
    ),
    Model(
        "r1-distill-qwen-7b",
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",),
        trunk(28, 3584, 28, 4, 18944, 152064) | _QWEN2,
        "7.62 B",
    ),
    Model(
        "r1-distill-qwen-14b",
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "agentica-org/DeepCoder-14B-Preview"),
        trunk(48, 5120, 40, 8, 13824, 152064) | _QWEN2,
        "14.8 B",
    ),
    Model(
        "r1-distill-qwen-32b",
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",),
        trunk(64, 5120, 40, 8, 27648, 152064) | _QWEN2,
        "32.8 B",
    ),
    _qwen("qwen3-0.6b", "Qwen3-0.6B", (28, 1024, 16, 8, 3072, 151936), _QWEN3 | _TIED, "0.6 B"),
    _qwen("qwen3-1.7b", "Qwen3-1.7B", (28, 2048, 16, 8, 6144, 151936), _QWEN3 | _TIED, "1.72 B", "Qwen3-VL-2B"),
    _qwen("qwen3-4b", "Qwen3-4B", (36, 2560, 32, 8, 9728, 151936), _QWEN3 | _TIED, "4.02 B", "Qwen3-VL-4B"),
    _qwen("qwen3-8b", "Qwen3-8B", (36, 4096, 32, 8, 12288, 151936), _QWEN3, "8.19 B", "Qwen3-VL-8B"),
    _qwen("qwen3-14b", "Qwen3-14B", (40, 5120, 40, 8, 17408, 151936), _QWEN3, "14.8 B"),
    _qwen("qwen3-32b", "Qwen3-32B", (64, 5120, 64, 8, 25600, 151936), _QWEN3, "32.8 B", "Qwen3-VL-32B"),
    Model(
        "mistral-7b",
        ("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-Instruct-v0.2"),
        trunk(32, 4096, 32, 8, 14336, 32000) | _MISTRAL,
        "7.24 B",
    ),
    Model(
        "mistral-nemo-12b",
        ("mistralai/Mistral-Nemo-Base-2407",),
        trunk(40, 5120, 32, 8, 14336, 131072) | _NEMO,
        "12.2 B",
    ),
    Model(
        "mistral-large-123b",
        ("mistralai/Mistral-Large-Instruct-2407", "mistralai/Mistral-Large-Instruct-2411"),
        trunk(88, 12288, 96, 8, 28672, 32768) | _MISTRAL | {"head_dim": 128, "rope_theta": 1000000.0},
        "123 B",
    ),
    Model(
        "mistral-small-24b",
        (
            "mistralai/Mistral-Small-24B-Base-2501",
            "mistralai/Mistral-Small-3.1-24B-Base-2503",
            "mistralai/Magistral-Small-2506",
            "mistralai/Magistral-Small-2507",
            "mistralai/Devstral-Small-2507",
        ),
        trunk(40, 5120, 32, 8, 32768, 131072) | _NEMO,
        "23.6 B",
    ),
    Model(
        "ministral3-3b",
        ("mistralai/Ministral-3-3B-Base-2512", "mistralai/Ministral-3-3B-Reasoning-2512"),
        trunk(26, 3072, 32, 8, 9216, 131072, tie_word_embeddings=True) | _MINISTRAL3,
        "3.4 B",
    ),
    Model(
        "ministral3-8b",
        ("mistralai/Ministral-3-8B-Base-2512",),
        trunk(34, 4096, 32, 8, 14336, 131072) | _MINISTRAL3,
        "8.4 B",
    ),
    Model(
        "ministral3-14b",
        ("mistralai/Ministral-3-14B-Base-2512",),
        trunk(40, 5120, 32, 8, 16384, 131072) | _MINISTRAL3,
        "13.5 B",
    ),
)
