"""Models by name, as graphs of layers in pure Python.

``MODELS`` is the plugin object of the entry point ``uniap.models``. Each family is a module with a public builder
of the same name (``uniap_zoo.llama.llama(layers=..., hidden=..., ...)``).

The ``architecture`` of a graph uses one vocabulary for all families, :data:`uniap_core.architecture.ENTRIES`.
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
    group="uniap_zoo.catalogue:group",
    aliases="uniap_zoo.catalogue:aliases",
    configured="uniap_zoo.hub:graph_of",
    handles=rf"({'|'.join(FAMILIES)}):.*|[\w./ -]+:(seq|mtp)=.*",
)

__all__ = ["MODELS", "build", "names", "summary"]
