"""Mixtures of experts: router, routed experts, shared experts, latent experts."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from uniap_core.graph import TOKENS, Operator, Saved

from .. import operators as op
from .blocks import Style, gated_mlp, plain_mlp, pointwise


@dataclass(frozen=True)
class Experts:
    """A layer's experts.

    Attributes
    ----------
    ffn
        Width of one expert.
    shared
        Width of the MLP that all tokens visit, 0 for none.
    shared_gate
        Whether a scalar gate weighs it (Qwen).
    gated
        Whether experts have a gate projection (SwiGLU); otherwise two products with squared ReLU.
    bias
        Of the experts' products (gpt-oss).
    router_bias
        Of the router's product.
    latent
        Width that tokens are pressed to before they are sent to experts, 0 for none (Nemotron 3 Super).
    wide_scores
        Whether the router multiplies in fp32 (DeepSeek-V3, GLM).
    shared_name, gate_name
        Names of modules.
    """

    count: int
    top_k: int
    ffn: int
    shared: int = 0
    shared_gate: bool = False
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    latent: int = 0
    wide_scores: bool = False
    shared_name: str = "shared_experts"
    gate_name: str = "gate"


def experts(style: Style, e: Experts) -> tuple[Operator, ...]:
    """Router, dispatch of rows to experts, their MLPs, weighted sum; then the shared experts."""
    where, hidden = style.mlp, style.hidden
    width = e.latent or hidden
    router = (
        op.linear(f"{where}.{e.gate_name}", hidden, e.count, bias=e.router_bias, keep=not e.wide_scores),
        _routing(style, e),
    )
    down = op.linear(f"{where}.fc1_latent_proj", hidden, width, keep=False)
    up = op.linear(f"{where}.fc2_latent_proj", width, hidden)
    latent = ((down,), (up,)) if e.latent else ((), ())
    shared: tuple[Operator, ...] = ()
    if e.shared:
        name = f"{where}.{e.shared_name}"
        mlp = gated_mlp(style, e.shared, name) if e.gated else plain_mlp(style, e.shared, name, squared=True)
        # The input of the shared experts is that of the router, which is kept already.
        shared = (_kept_already(mlp[0]), *mlp[1:])
        if e.shared_gate:
            kept = (Saved(1), Saved(hidden))
            shared += (
                op.linear(f"{where}.shared_expert_gate", hidden, 1, keep=False),
                pointwise(f"{where}.shared_expert_gate.mul", hidden, saved=kept),
            )
        shared += (pointwise(f"{where}.add", hidden),)
    return (*router, *latent[0], *_routed(style, e, width), *latent[1], *shared)


def _kept_already(operator: Operator) -> Operator:
    return structs.replace(operator, saved=())


def _routing(style: Style, e: Experts) -> Operator:
    """Scores and the best of them; a router in fp32 keeps its input so (and in bf16 for whoever else reads it)."""
    scores: tuple[Saved, ...] = (Saved(e.count + 2 * e.top_k, bytes=4, selective=True),)
    if e.wide_scores:
        scores += (Saved(style.hidden, bytes=4, selective=True), Saved(style.hidden, selective=True))
    indices = Saved(5 * e.top_k, bytes=8, selective=True)
    return pointwise(f"{style.mlp}.{e.gate_name}.scores", e.count, 20.0, saved=(*scores, indices))


def _routed(style: Style, e: Experts, width: int) -> tuple[Operator, ...]:
    """Dispatch, one product per expert over the rows that visit it, and their weighted sum."""
    where, k, eager = f"{style.mlp}.experts", e.top_k, style.kernels == "eager"
    visit = Saved(k * e.ffn, split=True)
    again = Saved(k * e.ffn, split=True, selective=True)
    into = 2 * e.ffn if e.gated else e.ffn
    if e.gated:
        kept = (visit, visit, *((again,) if eager else ()))
    else:
        kept = (visit,)
    act = pointwise(f"{where}.act_fn", k * e.ffn, 5.0 if eager else 3.0, split="experts", saved=kept)
    combine = pointwise(
        f"{where}.combine", k * width, 6.0 if eager else 2.5, saved=(Saved(k * width),) if eager else ()
    )
    first = (Saved(k * width, selective=True),)
    return (
        pointwise(f"{where}.dispatch", k * width, 2.0),
        _product(f"{where}.gate_up_proj" if e.gated else f"{where}.up_proj", e, width, into, first, entry=True),
        act,
        _product(f"{where}.down_proj", e, e.ffn, width, (again,)),
        combine,
    )


def _product(
    name: str, e: Experts, inner: int, outer: int, saved: tuple[Saved, ...], *, entry: bool = False
) -> Operator:
    return Operator(
        name=name,
        kind="grouped_gemm",
        rows=TOKENS,
        inner=inner,
        outer=outer,
        experts=e.count,
        top_k=e.top_k,
        split="experts",
        entry=entry,
        parameters=e.count * (inner * outer + e.bias * outer),
        saved=saved,
    )
