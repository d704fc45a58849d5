"""Small models of transformers with random weights, and those weights under the names of the executor's own models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from tests import hf_config

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"rope_theta": 5e5, "rms_norm_eps": 1e-5, "attention_bias": True, "mlp_bias": True},
    "mistral": {"head_dim": 12, "sliding_window": None, "rope_theta": 1e6, "rms_norm_eps": 1e-5},
    "ministral": {"head_dim": 12, "sliding_window": 16},
    "qwen2": {"rope_theta": 1e6, "tie_word_embeddings": True},
    "qwen3": {"head_dim": 16, "rope_theta": 1e6},
    "internlm3": {"head_dim": 8, "attention_bias": True, "mlp_bias": True},
    "seed_oss": {"head_dim": 8, "attention_bias": True, "attention_out_bias": False, "rope_theta": 1e7},
}
"""What makes each model another one than Llama with its sizes."""

NAMES = {
    r"^model\.embed_tokens": "embedding.tokens",
    r"^model\.norm": "head.norm",
    r"^lm_head": "head.lm_head",
    r"^model\.layers": "layers",
    r"input_layernorm": "norm_attention",
    r"post_attention_layernorm": "norm_mlp",
    r"self_attn\.(\w)_norm": lambda found: f"attention.norm_{PROJECTIONS[found[1]]}",
    r"self_attn\.(\w)_proj": lambda found: f"attention.{PROJECTIONS[found[1]]}",
    r"mlp\.(\w+)_proj": r"mlp.\1",
}
PROJECTIONS = {"q": "query", "k": "key", "v": "value", "o": "out"}


def write_config(folder: Path, kind: str, **more: Any) -> Path:
    """A ``config.json`` of a small model of one of these types, or of any other as it is."""
    return hf_config.write_config(folder, kind, **CONFIGS.get(kind, {}) | more)


def random_model(path: Path, seed: int = 0) -> torch.nn.Module:
    """The causal language model of a config, no parameter of which has a value that hides a mistake."""
    import transformers
    from uniap_torch.sources import read_config

    model = transformers.AutoModelForCausalLM.from_config(read_config(str(path))).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else 0.2 * noise)
    return model


def renamed(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its weights under the names of the executor's Llama."""
    weights = {}
    for name, value in model.state_dict().items():
        for pattern, there in NAMES.items():
            name = re.sub(pattern, there, name)
        weights[name] = value
    return weights


def alike(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether logits agree to 1e-5 of their size."""
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())
