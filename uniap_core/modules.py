"""Recomputation by modules: which operators of a layer a set of modules runs again, and what is not kept for it.

A set is ``none``, ``full``, or words of :data:`MODULES` joined by ``+``. A module is found by the shapes of a layer's
operators, so that traced models have them too; a set means nothing for modules that a layer does not have. What a
module is given stays, what it makes is made again (Megatron-Core, ``--recompute-modules``; Korthikanti et al. 2022,
arXiv 2205.05198, section 5).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .operators import Operator

LIGHT = ("core_attn", "norm", "activation")
"""Modules without a product of weights; ``selective`` is all of them."""

HEAVY = ("mla_up", "shared_experts", "mlp", "moe")
"""Modules that are mostly products: up-projections of latent attention, and the parts of the second half of a block."""

MODULES = ("selective", *LIGHT, *HEAVY)
"""All words of a set, in the order in which it is written."""

Operators = tuple[Operator, ...]


class Again(NamedTuple):
    """What a set means for one operator.

    Attributes
    ----------
    runs
        It runs again in backward, with its communication where that belongs to a module that is mostly products.
    light
        What can be rebuilt from its other tensors without a product is not kept (:attr:`Saved.selective`).
    rest
        Nor is what else it keeps.
    """

    runs: bool = False
    light: bool = False
    rest: bool = False


def words_of(recompute: str) -> tuple[str, ...]:
    """The modules of a set; ``none`` and ``full`` have none."""
    return () if recompute in ("none", "full") else tuple(recompute.split("+"))


def misspelt(recompute: str) -> str:
    """What is wrong with the name of a set, or an empty string."""
    words = words_of(recompute)
    unknown = [word for word in words if word not in MODULES]
    if unknown:
        return f"{unknown[0]!r} is no module that is recomputed"
    if list(words) != [word for word in MODULES if word in words]:
        return f"the modules of {recompute!r} are not each once in the order {'+'.join(MODULES)}"
    if "selective" in words and set(words) & set(LIGHT):
        return f"{recompute!r} names what selective contains"
    return ""


@lru_cache(maxsize=4096)
def found(operators: Operators) -> dict[str, tuple[int, ...]]:
    """The modules of :data:`HEAVY` that a layer has, with the numbers of their operators.

    ``mlp``: a product that column-splits, up to the next that row-splits, with nothing but pointwise work and other
    products between; ``shared_experts`` the same beside experts. ``moe``: all behind the last norm before the experts
    but the last addition. ``mla_up``: column-split products of normed latents, up to the attention.
    """
    expert = [i for i, op in enumerate(operators) if op.kind == "grouped_gemm"]
    modules: dict[str, tuple[int, ...]] = {}
    mlp = _gated(operators)
    if mlp:
        modules["shared_experts" if expert else "mlp"] = mlp
    if expert:
        before = [i for i in range(expert[0]) if operators[i].kind in ("norm", "attention")]
        last = len(operators) - (operators[-1].kind == "pointwise" and not operators[-1].saved)
        modules["moe"] = tuple(range(before[-1] + 1 if before else 0, max(last, expert[-1] + 1)))
    if up := _latent(operators):
        modules["mla_up"] = up
    return modules


def _gated(operators: Operators) -> tuple[int, ...]:
    start = None
    for i, op in enumerate(operators):
        if op.kind in ("attention", "norm", "grouped_gemm"):
            start = None
        elif op.kind == "gemm" and op.split == "row" and start is not None:
            return tuple(range(start, i + 1))
        elif op.kind == "gemm" and op.split == "column" and start is None:
            start = i
    return ()


def _latent(operators: Operators) -> tuple[int, ...]:
    core = next((i for i, op in enumerate(operators) if op.kind == "attention"), 0)
    made: list[int] = []
    for i, op in enumerate(operators[:core]):
        normed = [n for n in range(i) if operators[n].kind == "norm" and operators[n].inner == op.inner]
        latent = any(operators[g].kind == "gemm" for n in normed[-1:] for g in range(n))
        if op.kind == "gemm" and op.split == "column" and latent:
            made.append(i)
    return tuple(i for i in range(made[0], core) if i in made or operators[i].kind == "pointwise") if made else ()


def again(operators: Operators, recompute: str) -> tuple[Again, ...]:
    """What a set means for each operator of a layer."""
    if recompute in ("none", "full"):
        return (Again(*([recompute == "full"] * 3)),) * len(operators)
    if recompute == "selective":
        return tuple(_light(op, set(LIGHT)) for op in operators)
    return _of_set(operators, recompute)


@lru_cache(maxsize=65536)
def _of_set(operators: Operators, recompute: str) -> tuple[Again, ...]:
    words, has = words_of(recompute), found(operators)
    light = set(LIGHT if "selective" in words else words)
    told = [_light(op, light) for op in operators]
    for name in HEAVY:
        members = has.get(name, ()) if name in words else ()
        for i in members:
            # The first is given what it keeps; latents are kept too, as what the up-projections are given.
            given = i == members[0] or (name == "mla_up" and operators[i].kind == "gemm")
            told[i] = told[i]._replace(runs=True) if given else Again(runs=True, light=True, rest=True)
        if members and name == "mla_up":
            core = next(i for i, op in enumerate(operators) if op.kind == "attention")
            told[core] = told[core]._replace(rest=True)
    return tuple(told)


def _light(op: Operator, light: set[str]) -> Again:
    if op.kind == "attention":
        there = "core_attn" in light
        return Again(there, there)
    if op.kind == "norm":
        there = "norm" in light
        return Again(there, there)
    # What a product keeps and can be rebuilt is the result of the pointwise work before it.
    there = "activation" in light
    return Again(there and op.kind == "pointwise", there)


def menu(operators: Operators) -> tuple[str, ...]:
    """The sets that are considered for a layer by themselves, beside ``none``, ``selective`` and ``full``.

    None for a dense block: its products cost alike for each byte that they make, so that some layers in full beside
    others without are as good as parts of all. Latents are far narrower than what is made of them, so that making it
    again costs least of all; beside experts, attention (which keeps next to nothing that could be made again) is the
    dear part of ``selective``. Published recipes set these too; every further set costs every search its time, and is
    considered where a pin names it.
    """
    if any(op.kind in ("embedding", "loss") for op in operators):
        return ()
    has = found(operators)
    if "mla_up" in has:
        return ("mla_up",) if "moe" in has else ("mla_up", "mla_up+mlp")
    return ("norm+activation",) if "moe" in has else ()


def own(operators: Operators, recompute: str) -> str:
    """The set without what means nothing to a layer: modules that it has not, or that another of them contains."""
    if recompute in ("none", "selective", "full"):
        return recompute
    if any(op.kind in ("embedding", "loss") for op in operators):
        return "none"
    has = found(operators)
    words = [word for word in words_of(recompute) if word in has or word not in HEAVY]
    if "moe" in words and "shared_experts" in words:
        words.remove("shared_experts")
    if set(words).issuperset(LIGHT):
        words = ["selective", *(word for word in words if word not in LIGHT)]
    return "+".join(words) or "none"
