"""Whether the model code here is that of a plan's model: what an exported script would train instead, if anything."""

from __future__ import annotations

from collections.abc import Iterator

from uniap_core.api import Inexpressible, ModelGraph, Plan

from .models.names import FAMILIES, LLAMAS, family_of, is_traced


def differences(plan: Plan) -> Iterator[str]:
    """Reasons why a script with the code here would not train a plan's model; none if it would.

    A traced model is held against the code layer by layer and to the parameter; what parameters do not show (norms'
    epsilons, rotary positions, windows) the code reads from the graph's architecture.
    """
    graph = plan.model
    if not family_of(graph):
        kind = graph.architecture.get("family", graph.family)
        yield f"there is none here for {kind}, only for {', '.join(dict.fromkeys((*FAMILIES, *LLAMAS)))}"
    elif is_traced(graph):
        if family_of(graph) == "llama" and "rotary" not in graph.architecture:
            yield "its graph, of an older trace, does not say its rotary positions"
        yield from _other_layers(graph)
        if plan.training.dropout and _drops(graph):
            yield "the code here has no dropout"


def _drops(graph: ModelGraph) -> bool:
    """Whether a model has dropout; attention's is no operator of its own."""
    operators = (op for layer in graph.layers for op in layer.operators)
    return bool(graph.architecture.get("attention_dropout")) or any(op.name.startswith("dropout") for op in operators)


def _other_layers(graph: ModelGraph) -> Iterator[str]:
    from .models import build
    from .source import parameters_on_meta

    try:
        with parameters_on_meta():
            model = build(graph)
    except KeyError as error:
        yield f"its graph does not say its {error.args[0]}"
        return
    except Inexpressible as error:
        yield error.cause
        return
    modules = dict(model.named_modules())
    for layer in graph.layers:
        if layer.name not in modules:
            yield f"the code here has no layer {layer.name}"
            return
        count = sum(p.numel() for p in modules[layer.name].parameters())
        if count != layer.parameters:
            yield f"its layer {layer.name} has {layer.parameters} parameters, the code's {count}"
            return
    count = sum(p.numel() for p in model.parameters())
    if count != graph.parameters:
        yield f"it has {graph.parameters} parameters, the code here {count}"
