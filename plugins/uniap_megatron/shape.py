"""A model's architecture as Megatron-LM is told it, and what of it cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from uniap_core.api import ANY, SHAPES, ModelGraph, Plan, Value, beyond, complete, idle, mistyped

from . import FAMILIES

VOCABULARY_MULTIPLE = 128
"""Megatron-LM pads the vocabulary to a multiple of this times the tensor-parallel degree."""

READ: dict[str, tuple[Value, ...]] = {
    "family": FAMILIES,
    **dict.fromkeys((*SHAPES, "positions", "tied", "norm_eps", "rotary_base", "rotary_share"), ANY),
    **dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias", "head_bias", "next_sentence"), ANY),
    **dict.fromkeys(("sliding_window", "attention_dropout", "hidden_dropout"), ANY),
    **dict.fromkeys(("experts", "top_k", "router_loss"), ANY),
    "activation": ("swiglu", "gelu"),
    "norm": ("rms", "layer"),
    "qk_norm": ("", "head"),
    "rotary": ("none", "default", "linear", "llama3"),
    **dict.fromkeys(("rotary_factor", "rotary_low", "rotary_high", "rotary_positions"), ANY),
}
"""Entries that arguments are written of, with the values that there are arguments for."""

LLAMA3 = {"rotary_low": 1.0, "rotary_high": 4.0, "rotary_positions": 8192}
"""What its scaling of rotary positions has built in (megatron/core/models/common/embeddings, ``_apply_scaling``)."""

Pairs = Iterator[tuple[str, str]]


def facts_of(graph: ModelGraph) -> dict[str, Value]:
    """The complete architecture of a graph."""
    return complete({"family": graph.family, **graph.architecture})


def untold(graph: ModelGraph) -> Iterator[str]:
    """What a graph records that no argument says, in sentences."""
    facts = facts_of(graph)
    if wrong := list(mistyped(facts)):
        yield f"the architecture of {graph.name}: {', '.join(wrong)}"
        return
    for entry in beyond(facts, READ):
        yield f"Megatron-LM has no argument for {entry}"
    for entry in idle(facts):
        yield f"the graph of {graph.name} contradicts itself: {entry}"
    if facts["family"] != graph.family:
        yield f"the graph of {graph.name} is of the family {graph.family}, and its architecture of {facts['family']}"
    yield from _biases(facts)
    yield from _positions(facts)
    if bool(facts["experts"]) != (graph.family == "mixtral"):
        yield f"a model of the family {graph.family} with experts {facts['experts']}"
    bert = graph.family == "bert"
    if facts["next_sentence"] != bert:
        has = "has" if bert else "has no"
        yield f"Megatron-LM's model of the family {graph.family} {has} head for the next sentence (next_sentence)"


def _biases(facts: Mapping[str, Value]) -> Iterator[str]:
    """Biases are of all linear layers, of queries, keys and values alone, or of none; BERT's head has one."""
    inner = facts["qkv_bias"], facts["out_bias"], facts["mlp_bias"]
    if inner not in ((False, False, False), (True, False, False), (True, True, True)):
        yield (
            "Megatron-LM has biases of all linear layers, of queries, keys and values alone, or none, not "
            f"qkv_bias {inner[0]}, out_bias {inner[1]}, mlp_bias {inner[2]}"
        )
    if facts["head_bias"] != (facts["family"] == "bert"):
        yield f"Megatron-LM's head of the family {facts['family']} is not one of head_bias {facts['head_bias']}"
    if facts["experts"] and inner[2]:
        yield "Megatron-LM's grouped experts have no biases (mlp_bias)"


def _positions(facts: Mapping[str, Value]) -> Iterator[str]:
    rotary, base, factor = str(facts["rotary"]), float(facts["rotary_base"]), float(facts["rotary_factor"])
    if rotary == "none" and not facts["positions"]:
        yield "Megatron-LM's model would have no positions: the architecture has positions 0 and rotary none"
    if facts["family"] == "bert" and rotary != "none":
        yield f"pretrain_bert.py has a learned table of positions, not rotary {rotary}"
    if rotary != "none" and base != int(base):
        yield f"Megatron-LM takes a whole number for rotary_base, not {base}"
    if rotary == "linear" and factor != int(factor):
        yield f"Megatron-LM stretches rotary positions by whole numbers, not by rotary_factor {factor}"
    if rotary == "llama3":
        other = [f"{name} {facts[name]}" for name, value in LLAMA3.items() if facts[name] != value]
        if other:
            fixed = ", ".join(f"{name} {value:g}" for name, value in LLAMA3.items())
            yield f"Megatron-LM stretches as llama3 with {fixed}, not with {', '.join(other)}"


def padded_vocabulary(plan: Plan) -> int:
    """Rows of the embedding table as Megatron-LM makes it."""
    multiple = VOCABULARY_MULTIPLE * plan.layers[0].strategy.tp
    return -(-int(plan.model.architecture["vocab"]) // multiple) * multiple


def model_arguments(plan: Plan) -> Pairs:
    """Flags and values of the model."""
    facts = facts_of(plan.model)
    yield "num-layers", str(int(facts["layers"]))
    yield "hidden-size", str(int(facts["hidden"]))
    yield "ffn-hidden-size", str(int(facts["ffn"]))
    yield "num-attention-heads", str(int(facts["heads"]))
    yield "kv-channels", str(int(facts["head_size"]))
    if facts["kv_heads"] != facts["heads"]:
        yield "group-query-attention", ""
        yield "num-query-groups", str(int(facts["kv_heads"]))
    yield "make-vocab-size-divisible-by", str(VOCABULARY_MULTIPLE)
    if not facts["tied"]:
        yield "untie-embeddings-and-output-weights", ""
    yield from _position_arguments(facts, plan.sequence)
    yield "normalization", "RMSNorm" if facts["norm"] == "rms" else "LayerNorm"
    yield "norm-epsilon", repr(float(facts["norm_eps"]))
    if facts["qk_norm"]:
        yield "qk-layernorm", ""
    if facts["activation"] == "swiglu":
        yield "swiglu", ""
    if not facts["mlp_bias"]:
        yield "disable-bias-linear", ""
        if facts["qkv_bias"]:
            yield "add-qkv-bias", ""
    if window := int(facts["sliding_window"]):
        # Positions before its own that a query sees, and behind it: one fewer than a config's window.
        yield "window-size", f"{window - 1},0"
    if facts["experts"]:
        yield from _expert_arguments(facts)
    drops = plan.training.dropout
    yield "attention-dropout", str(float(facts["attention_dropout"]) if drops else 0.0)
    yield "hidden-dropout", str(float(facts["hidden_dropout"]) if drops else 0.0)


def _position_arguments(facts: Mapping[str, Value], sequence: int) -> Pairs:
    yield "max-position-embeddings", str(max(int(facts["positions"]), sequence))
    if facts["rotary"] == "none":
        yield "position-embedding-type", "learned_absolute"
        return
    yield "position-embedding-type", "rope"
    yield "rotary-base", str(int(facts["rotary_base"]))
    if facts["rotary_share"] != 1:
        yield "rotary-percent", str(float(facts["rotary_share"]))
    if facts["rotary"] == "linear":
        yield "rotary-seq-len-interpolation-factor", str(int(facts["rotary_factor"]))
    if facts["rotary"] == "llama3":
        yield "use-rope-scaling", ""
        yield "rope-scaling-factor", str(float(facts["rotary_factor"]))


def _expert_arguments(facts: Mapping[str, Value]) -> Pairs:
    yield "num-experts", str(int(facts["experts"]))
    yield "moe-router-topk", str(int(facts["top_k"]))
    yield "moe-grouped-gemm", ""
    yield "moe-token-dispatcher-type", "alltoall"
    # The plan was priced with rows spread evenly over the experts, which nothing else sees to.
    yield "moe-router-load-balancing-type", "aux_loss" if facts["router_loss"] else "none"
    if facts["router_loss"]:
        yield "moe-aux-loss-coeff", str(float(facts["router_loss"]))
