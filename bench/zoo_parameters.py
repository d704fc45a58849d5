"""Count the named models that are configurations by transformers' own models, on the meta device.

``python bench/zoo_parameters.py tests/data/zoo_parameters.json`` writes parameters by name; the tests hold every graph
against them. A model whose type transformers does not have is counted by its graph, and marked so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers

import uniap_zoo
from uniap_zoo.catalogue import ENTRIES


def counted(config: dict[str, object]) -> int | None:
    """Parameters of the model that transformers builds, or ``None`` if it knows no such type."""
    if config["model_type"] not in transformers.CONFIG_MAPPING:
        return None
    made = transformers.AutoConfig.for_model(**config)
    if type(made) not in transformers.AutoModelForCausalLM._model_mapping:
        return None
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    return sum(parameter.numel() for parameter in model.parameters())


def main(target: str) -> int:
    """Count all; returns 1 if a graph counts otherwise than its model."""
    transformers.logging.set_verbosity_error()
    found: dict[str, dict[str, object]] = {}
    for name, entry in ENTRIES.items():
        if not entry.config:
            continue
        theirs, mine = counted(entry.config), uniap_zoo.build(name).parameters
        found[name] = {"parameters": theirs or mine, "by": "transformers" if theirs else "graph"}
        print(f"{name:28} {mine:>20,} {'' if theirs in (None, mine) else f'transformers: {theirs:,}'}", flush=True)
    Path(target).write_text(json.dumps(found, indent=1) + "\n")
    return any(uniap_zoo.build(name).parameters != row["parameters"] for name, row in found.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
