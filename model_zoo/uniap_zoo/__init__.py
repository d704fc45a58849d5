"""Models by name, as graphs of layers in pure Python.

``MODELS`` is the plugin object of the entry point ``uniap.models``. Each family is a module with a public builder
of the same name (``uniap_zoo.llama.llama(layers=..., hidden=..., ...)``).

The ``architecture`` of a graph uses one vocabulary for all families: ``family``, ``layers`` (encoder blocks where
there is a decoder too), ``decoder_layers``, ``hidden``, ``heads``, ``kv_heads``, ``head_size``, ``ffn``, ``vocab``,
``positions`` (entries of a learned table, 0 if there is none), ``tied``, ``activation`` (gelu, relu, swiglu),
``norm`` (layer, rms), ``experts``, ``top_k``, ``kernels`` (eager, fused); for images ``image``, ``patch``,
``channels``, ``classes``, ``window``, and for Swin ``depths`` and ``stage_heads`` as ``2/2/42/2``.

Graphs of traced decoders say more of what Llama-type models differ in: ``qkv_bias``, ``out_bias``, ``mlp_bias``;
``qk_norm`` (empty, head, or width: a norm of queries and keys, of each head or of all together); ``norm_eps``;
``rotary`` (default, linear, llama3, or another kind that transformers knows), ``rotary_base``, ``rotary_share`` of a
head's dimensions, and for stretched ones ``rotary_factor``, ``rotary_low``, ``rotary_high``, ``rotary_positions``;
``sliding_window`` in positions; ``attention_dropout``.
"""

from __future__ import annotations

from uniap_core.models import ModelPlugin

from .catalogue import FAMILIES, build, names, summary

MODELS = ModelPlugin(
    name="zoo",
    summary="published models and families with free parameters",
    names="uniap_zoo:names",
    describe="uniap_zoo:summary",
    build="uniap_zoo:build",
    published="uniap_zoo.published:published",
    kernels="uniap_zoo.catalogue:with_kernels",
    from_hyperparameters="uniap_zoo.tabulated:graph_of",
    handles=f"({'|'.join(FAMILIES)}):.*",
)

__all__ = ["MODELS", "build", "names", "summary"]
