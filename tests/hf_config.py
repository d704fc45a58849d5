"""Configs of small models, as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "pad_token_id": None,
}


def write_config(folder: Path, kind: str, **more: Any) -> Path:
    """A ``config.json`` of a small decoder of a model type."""
    path = folder / "config.json"
    path.write_text(json.dumps(SIZES | {"model_type": kind} | more))
    return path
