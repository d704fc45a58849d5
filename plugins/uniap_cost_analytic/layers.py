"""Time of one layer under one strategy: compute, collectives, overlap, and what happens once per iteration."""

from __future__ import annotations

from typing import NamedTuple

from uniap_core.api import Operator, Strategy, Training, modules

from .constants import Constants
from .context import context_s
from .kernels import Cut, Engine, work
from .links import Group, collective_s, exposed_s
from .memory import Recipe, frozen_bytes, gathered_width, local_parameters, recomputes

BLEND = 3
"""Exponent of the soft maximum of device time and host time: neither is ever quite in step with the other."""


class Place(NamedTuple):
    """A stage as a strategy sees it: its device, and the groups of ranks that work together."""

    engine: Engine
    tensor: Group
    context: Group
    expert: Group
    data: tuple[Group, Group]
    """Of the ranks that hold the same parameters, those that share states, and those with copies of one share."""
    expert_data: tuple[Group, Group]


class Pass(NamedTuple):
    """One forward pass of one operator: compute, and communication of tensor parallelism and of others, not hidden."""

    forward_s: float
    tensor_s: float
    other_s: float
    kernels: int


class LayoutCosts(NamedTuple):
    """One forward and one backward pass on one device, without recomputation and data parallelism.

    ``selective_s`` is the forward time of what selective recomputation runs again. Communication of tensor
    parallelism, as far as it is exposed, is apart from that of context and expert parallelism. ``kernels`` count
    forward and backward. ``each`` operator's forward pass is told for sets of modules.
    """

    forward_s: float
    backward_s: float
    selective_s: float
    tensor_forward_s: float
    tensor_backward_s: float
    other_forward_s: float
    other_backward_s: float
    kernels: int
    backward_kernels: int
    each: tuple[Pass, ...] = ()


class Times(NamedTuple):
    """Seconds of a layer under a strategy; ``parts`` in the order of :data:`uniap_core.costs.TIME_PARTS`."""

    forward_s: float
    backward_s: float
    iteration_s: float
    parts: tuple[float, float, float, float, float]


def layout_costs(
    operators: tuple[Operator, ...], cut: Cut, place: Place, training: Training, constants: Constants
) -> LayoutCosts:
    """Add up a layer's operators and the collectives between them."""
    forward = backward = selective = 0.0
    tensor_f = tensor_b = other_f = other_b = 0.0
    kernels = backward_kernels = 0
    each = []
    for op in operators:
        w = work(op, cut, place.engine, training, constants)
        forward += w.forward_s
        backward += w.backward_s
        kernels += w.kernels
        backward_kernels += w.backward_kernels
        if op.kind in ("attention", "norm", "pointwise"):
            selective += w.forward_s
        f, b, issued = _tensor_parallel(op, cut, place, constants)
        if op.entry and op.weight_trained and training.tensor_overlap == "backward":
            # Of the two products of backward, the one by the weight's gradient runs beside it.
            b = exposed_s(b, w.backward_s / 2, constants)
        tensor_f, tensor_b = tensor_f + f, tensor_b + b
        tensor_s = f
        f, b = context_s(op, cut, place.engine, place.context, w.forward_s, training, constants)
        exchanged = _experts(op, cut, place, constants)
        other_f, other_b = other_f + f + exchanged, other_b + b + exchanged
        kernels += issued
        backward_kernels += issued
        each.append(Pass(w.forward_s, tensor_s, f + exchanged, w.kernels + issued))
    if training.tensor_overlap == "all":
        each = [one._replace(tensor_s=exposed_s(one.tensor_s, one.forward_s, constants)) for one in each]
        tensor_f = exposed_s(tensor_f, forward, constants)
        tensor_b = exposed_s(tensor_b, backward, constants)
    shared = tensor_f, tensor_b, other_f, other_b, kernels, backward_kernels
    return LayoutCosts(forward, backward, selective, *shared, tuple(each))


def _tensor_parallel(op: Operator, cut: Cut, place: Place, constants: Constants) -> tuple[float, float, int]:
    """Collectives of tensor parallelism, forward and backward, and how many calls the host issues for them.

    Both ends of a region are autograd functions, which cost the host a call in either direction even where only one
    of the two communicates.

    Leaving a region all-reduces in forward, entering one all-reduces in backward (Shoeybi et al. 2019,
    arXiv 1909.08053). Sequence parallelism turns each into a reduce-scatter and an all-gather of the same volume, and
    gathers the input once more in backward, behind the product by the input (Korthikanti et al. 2022,
    arXiv 2205.05198, section 4.2.2).
    """
    group = place.tensor
    if group.size == 1:
        return 0.0, 0.0, 0
    e = place.engine
    if op.kind == "grouped_gemm" and cut.etp == 1:
        return 0.0, 0.0, 0  # whole experts work on the rows that each rank has: its slices
    rows = cut.samples * op.rows.at(cut.sequence) / cut.cp * max(1, op.count)
    leaves = op.split == "row" or (op.kind == "embedding" and op.split == "vocab")
    leaves |= op.kind == "grouped_gemm" and not op.entry
    forward = backward = 0.0
    issued = 0
    if leaves:
        size = rows * op.outer * e.element_bytes * (op.top_k if op.kind == "grouped_gemm" else 1)
        issued += 1
        if cut.sequence_parallel:
            forward += collective_s("reduce_scatter", size, group, constants)
            backward += collective_s("all_gather", size, group, constants)
        else:
            forward += collective_s("all_reduce", size, group, constants)
    if op.entry:
        size = rows * op.inner * e.element_bytes * (op.top_k if op.kind == "grouped_gemm" else 1)
        issued += 1
        if cut.sequence_parallel:
            forward += collective_s("all_gather", size, group, constants)
            backward += collective_s("reduce_scatter", size, group, constants)
        else:
            backward += collective_s("all_reduce", size, group, constants)
    if gathered := gathered_width(op, cut.tp):
        # Products of queries, keys and values are split through the heads, put together, and each rank takes its own
        # (Megatron Core, attention.py, ``get_query_key_value_tensors``).
        size = rows * gathered * e.element_bytes
        issued += 1
        forward += collective_s("all_gather", size, group, constants)
        backward += collective_s("reduce_scatter", size, group, constants)
    if op.kind == "loss" and op.split == "vocab":
        # Vocabulary-parallel cross-entropy: maximum, sum and target, one float per row each.
        forward += 3 * collective_s("all_reduce", rows * 4, group, constants)
        issued += 3
    return forward, backward, issued


def _experts(op: Operator, cut: Cut, place: Place, constants: Constants) -> float:
    """Seconds that experts' rows take to or from them, in either direction (Lepikhin et al. 2020, GShard).

    The ranks of a tensor-parallel group send their own slices under sequence parallelism, else all send all; the rank
    that receives most is waited for.
    """
    if op.kind != "grouped_gemm" or cut.ep == 1:
        return 0.0
    rows = cut.samples * op.rows.at(cut.sequence) / cut.cp * cut.imbalance
    width = op.inner if op.entry else op.outer
    share = cut.tp if cut.sequence_parallel else 1
    size = rows * op.top_k * width * place.engine.element_bytes / share
    return collective_s("all_to_all", size, place.expert, constants)


def _waits_s(device_s: float, host_s: float) -> float:
    """What a host that issues kernels more slowly than the device runs them adds.

    The longer of the two wins, with a soft maximum (:data:`BLEND`).
    """
    if host_s < 0.1 * device_s:
        return 0.0
    return float((device_s**BLEND + host_s**BLEND) ** (1 / BLEND)) - device_s


def price_layer(
    operators: tuple[Operator, ...],
    costs: LayoutCosts,
    strategy: Strategy,
    place: Place,
    recipe: Recipe,
    constants: Constants,
    turns: float,
    *,
    copies: bool,
    reached: bool = True,
) -> Times:
    """Add recomputation, data parallelism and the optimizer to the costs of a layout.

    Parameters
    ----------
    turns
        What work once per iteration is divided by in ``parts`` (:attr:`Candidate.turns`).
    copies
        Whether a tied weight is a copy on another stage, with state and gradients of its own.
    reached
        Whether a gradient reaches the layer; if not, it has no backward pass.

    Notes
    -----
    Gradients (ZeRO, Rajbhandari et al. 2020, arXiv 1910.02054; FSDP, Zhao et al. 2023, arXiv 2304.11277):

    - none: one all-reduce per iteration, behind the last backward.
    - zero1: one reduce-scatter per iteration behind the last backward, and one all-gather of updated parameters.
    - zero2: a reduce-scatter behind every micro-batch's backward (only a shard of the sum is kept, so nothing whole
      may be accumulated), and one all-gather per iteration.
    - zero3: parameters gathered behind every forward and backward, gradients reduce-scattered behind every backward.

    All of it among ranks that share states; replicas beside them all-reduce their share of the gradients once per
    iteration, behind the last backward (without sharding, all of it).
    """
    again = again_tensor = 0.0
    again_kernels = 0
    if not reached:
        costs = costs._replace(backward_s=0.0, tensor_backward_s=0.0, other_backward_s=0.0, backward_kernels=0)
    elif recomputes(operators):
        if strategy.recompute == "full":
            again, again_tensor, again_kernels = costs.forward_s, costs.tensor_forward_s, costs.kernels
            again += costs.other_forward_s
        elif strategy.recompute == "selective":
            again, again_kernels = costs.selective_s, 8 if costs.selective_s else 0
        elif strategy.recompute != "none":
            again, again_tensor, again_kernels = _again_s(operators, costs, strategy.recompute)
    frozen = frozen_bytes(operators, strategy, recipe, copies=copies)
    trained = local_parameters(operators, strategy, copies=copies, frozen=False)
    forward = costs.forward_s + costs.tensor_forward_s + costs.other_forward_s
    backward = costs.backward_s + costs.tensor_backward_s + costs.other_backward_s + again + again_tensor
    waits = _waits_s(forward, costs.kernels * constants.host_s)
    issued = costs.backward_kernels * constants.host_backward_s + again_kernels * constants.host_s
    waits_b = _waits_s(backward, issued)
    forward, backward = forward + waits, backward + waits_b

    gather, reduce_each, reduce_last, gather_last = _gradients(strategy, trained, frozen, place, recipe, constants)
    data_forward = exposed_s(gather, forward, constants)
    data_backward = exposed_s(gather + reduce_each, backward, constants) if reached else 0.0
    data_last = exposed_s(reduce_last, backward, constants) + exposed_s(gather_last, forward, constants)
    update = _update_s(strategy, trained, place, recipe, constants)

    iteration = data_last + update
    other = costs.other_forward_s + costs.other_backward_s + waits + waits_b + update / turns
    parts = (
        costs.forward_s + costs.backward_s,
        again,
        costs.tensor_forward_s + costs.tensor_backward_s + again_tensor,
        data_forward + data_backward + data_last / turns,
        other,
    )
    return Times(forward + data_forward, backward + data_backward, iteration, parts)


def _again_s(operators: tuple[Operator, ...], costs: LayoutCosts, recompute: str) -> tuple[float, float, int]:
    """Seconds that a set of modules runs again, those of tensor parallelism apart, and its kernels.

    Light work communicates nothing that is needed again; modules that are mostly products do it all again.
    """
    cheap = "+".join(word for word in modules.words_of(recompute) if word not in modules.HEAVY)
    light = modules.again(operators, cheap or "none")
    seconds = tensor = 0.0
    kernels = 0
    for one, told, alone in zip(costs.each, modules.again(operators, recompute), light, strict=True):
        if not told.runs:
            continue
        seconds += one.forward_s
        kernels += one.kernels
        if told != alone:
            seconds += one.other_s
            tensor += one.tensor_s
    return seconds, tensor, kernels


def _gradients(
    strategy: Strategy,
    trained: tuple[float, float],
    frozen: tuple[float, float],
    place: Place,
    recipe: Recipe,
    constants: Constants,
) -> tuple[float, float, float, float]:
    """Seconds of: gather before each pass, reduce after each backward, reduce once, gather once.

    Only zero3 gathers what is frozen (its bytes are given); it is whole everywhere under the others.
    """
    total = [0.0, 0.0, 0.0, 0.0]
    for changing, still, (group, copies) in zip(trained, frozen, (place.data, place.expert_data), strict=True):
        whole = changing * recipe.gathered + still
        if strategy.sharding == "zero3" and whole:
            total[0] += collective_s("unshard", whole, group, constants)
        if not changing:
            continue
        weights, gradients = changing * recipe.gathered, changing * recipe.reduced
        total[2] += collective_s("all_reduce", gradients / group.size, copies, constants)
        match strategy.sharding:
            case "zero1":
                total[2] += collective_s("reduce_gradients", gradients, group, constants)
                total[3] += collective_s("unshard", weights, group, constants)
            case "zero2":
                total[1] += collective_s("reduce_gradients", gradients, group, constants)
                total[3] += collective_s("unshard", weights, group, constants)
            case "zero3":
                total[1] += collective_s("reduce_gradients", gradients, group, constants)
    return total[0], total[1], total[2], total[3]


def _update_s(
    strategy: Strategy, parameters: tuple[float, float], place: Place, recipe: Recipe, constants: Constants
) -> float:
    """The optimizer streams its states once; ZeRO updates one shard on each rank."""
    elements = sum(count / part for count, part in zip(parameters, strategy.parts("optimizer"), strict=True))
    bandwidth = place.engine.memory_Bps / constants.memory_share * constants.optimizer_share
    return elements * recipe.touched / bandwidth
