"""Published models whose layers the columns of a table describe, by name."""

from __future__ import annotations

from uniap_zoo.catalogue import ENTRIES
from uniap_zoo.published import sizes_of

LAYERS = ("llama", "mistral", "ministral3", "smollm3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3")
LAYERS += ("olmo2", "olmo3", "exaone4", "mixtral", "qwen3_moe", "olmoe", "glm4_moe", "dbrx", "grok-1", "opt", "bloom")
LAYERS += ("falcon", "gpt_neo", "gptj", "gpt_neox", "mpt", "nemotron", "gpt_oss")

KNOWN = {name: sizes_of(name) for name, entry in ENTRIES.items() if entry.config and entry.family in LAYERS}
del KNOWN["nemotron-mini-4b"]  # its MLP is three times as wide, which speaks for a gated one
KNOWN |= {name: sizes_of(name) for name in ("t5-base", "t5-3b", "t5-11b")}
