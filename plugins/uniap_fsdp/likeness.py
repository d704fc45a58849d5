"""Whether the model code here is that of a plan's model: what an exported script would train instead, if anything."""

from __future__ import annotations

from collections.abc import Iterator

from uniap_core.api import ANY, SHAPES, Inexpressible, ModelGraph, Plan, Value, beyond, complete, idle, mistyped

from .models.names import FAMILIES, LLAMAS, family_of, is_traced

DROPOUTS: dict[str, tuple[Value, ...]] = dict.fromkeys(
    ("attention_dropout", "hidden_dropout", "embedding_dropout"), ANY
)
"""They count in training with dropout alone, which is asked for apart."""

STANDARD: dict[str, tuple[Value, ...]] = {
    **dict.fromkeys((*SHAPES, "positions", "router_loss"), ANY),
    **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), (True,)),
    "activation": ("gelu",),
    "norm": ("layer",),
    **DROPOUTS,
}
"""What GPT and BERT have in common."""

READ: dict[str, dict[str, tuple[Value, ...]]] = {
    # Values that Llama has no option for are refused where it is built (models/llama.py, unknown_settings).
    "llama": {
        "family": ("llama", *LLAMAS),
        **dict.fromkeys((*SHAPES, "tied", "norm_eps", "qkv_bias", "out_bias", "mlp_bias"), ANY),
        **dict.fromkeys(("rotary", "rotary_base", "rotary_factor", "rotary_low", "rotary_high"), ANY),
        **dict.fromkeys(("rotary_positions", "sliding_window", "sliding_layers", "activation"), ANY),
        **DROPOUTS,
        "norm": ("rms", ""),
        "qk_norm": ("", "head"),
    },
    "gpt": {"family": ("gpt",), "tied": ANY, "norm_eps": (1e-5,), **STANDARD},
    "bert": {
        "family": ("bert",),
        "tied": (True,),
        "norm_eps": (1e-12,),
        "head_bias": (True,),
        **STANDARD,
        "next_sentence": (True,),
    },
    "t5": {
        "family": ("t5",),
        **dict.fromkeys((*SHAPES, "decoder_layers", "buckets"), ANY),
        "tied": (True,),
        "activation": ("relu",),
        "norm": ("rms",),
        "norm_eps": (1e-6,),
        **DROPOUTS,
    },
}
"""Entries of an architecture that the code here reads, by family, with the values that it can build."""


def differences(plan: Plan) -> Iterator[str]:
    """Reasons why a script with the code here would not train a plan's model; none if it would.

    The model is held against the code layer by layer and to the parameter; what parameters do not show (norms'
    epsilons, rotary positions, windows) the code reads from the graph's architecture, or it is a difference.
    """
    graph = plan.model
    if not family_of(graph):
        kind = graph.architecture.get("family", graph.family)
        yield f"there is none here for {kind}, only for {', '.join(dict.fromkeys((*FAMILIES, *LLAMAS)))}"
    else:
        if wrong := list(mistyped(graph.architecture)):
            yield f"its architecture: {', '.join(wrong)}"
            return
        facts = complete({"family": graph.family, **graph.architecture})
        yield from (f"the code here has no {entry}" for entry in beyond(facts, READ[family_of(graph)]))
        yield from (f"its graph contradicts itself: {entry}" for entry in idle(facts))
        if family_of(graph) != "llama" and facts["kv_heads"] != facts["heads"]:
            yield f"the code here has no kv_heads {facts['kv_heads']} beside {facts['heads']} heads"
        if graph.family in FAMILIES and facts["family"] != graph.family:
            yield f"its graph is of the family {graph.family}, and its architecture of {facts['family']}"
        if is_traced(graph) and family_of(graph) == "llama" and "rotary" not in graph.architecture:
            yield "its graph, of an older trace, does not say its rotary positions"
        yield from _other_layers(graph)
        if is_traced(graph) and plan.training.dropout and _drops(graph):
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
    seen: set[object] = set()
    for layer in graph.layers:
        if layer.name not in modules:
            yield f"the code here has no layer {layer.name}"
            return
        held = list(modules[layer.name].parameters())
        count = sum(p.numel() for p in held)
        # What layers share (T5's relative positions) a graph counts with the first of them, or as tied to it.
        own = sum(p.numel() for p in held if p not in seen)
        seen.update(held)
        if layer.parameters not in (count, own):
            yield f"its layer {layer.name} has {layer.parameters} parameters, the code's {count}"
            return
    count = sum(p.numel() for p in model.parameters())
    if count != graph.parameters:
        yield f"it has {graph.parameters} parameters, the code here {count}"
