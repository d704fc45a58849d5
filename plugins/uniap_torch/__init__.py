"""Torch models in: tracing an ``nn.Module`` or a Hugging Face config to a ModelGraph, and profiling its layers.

Importing this package does not import torch; the functions do when they are called.
"""

from __future__ import annotations

from uniap_core.api import ModelPlugin

MODELS = ModelPlugin(
    name="torch",
    summary="any torch module or Hugging Face config, traced without weights",
    build="uniap_torch.trace:trace",
    trace="uniap_torch.trace:trace",
    profile="uniap_torch.profiler:profile",
    handles=r"hf:.+|[A-Za-z_][\w.]*:[A-Za-z_]\w*",
    modules=("torch",),
    install="pip install 'uniap[torch,hf]'",
)
