"""``uniap trace``: any torch model, as a graph of layers."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from uniap_core.api import BadValue, Emit, Flow, Growth, Layer, Length, ModelGraph, Operator, silent

from . import sources

if TYPE_CHECKING:
    from .partition import Part
    from .records import Recording
    from .runs import Context, Group, Runs
    from .sources import Source


LIMIT_S = 300.0
"""Longest that a trace may take where nothing else is said."""


def trace(
    source: str,
    sequence: int | None = None,
    layers: str | None = None,
    *,
    emit: Emit = silent,
    time_limit_s: float | None = LIMIT_S,
) -> ModelGraph:
    """Trace a torch model on the meta device: no weights are loaded, nothing is downloaded or computed.

    The model runs with two samples and three, in fp32, and at three other sequences or four; the differences tell
    what grows with the batch and how with the sequence (a constant, a line, a parabola, up to a window, in chunks), and
    what is kept in which precision. A graph that the other lengths contradict holds for its own sequence alone.

    Parameters
    ----------
    source
        ``hf:DIR_OR_CONFIG.json`` or ``package.module:factory``, a function that returns (module, example inputs).
    sequence
        Positions per sample (default: the model's, at most 2048).
    layers
        Module paths of the layers, comma-separated, ``*`` for one component, as in ``model.layers.*``. Default:
        the repeated blocks.
    emit
        Hears of progress.
    time_limit_s
        Seconds that the runs may take together; ``None`` is no limit.

    Returns
    -------
    ModelGraph
        With ``family`` ``traced`` unless the model type is a family of the zoo.

    Raises
    ------
    BadFile, BadValue, UnknownName, PluginError
        If the model cannot be found, built or run in time, or ``layers`` matches nothing.
    """
    model = sources.load(source, sequence)
    _check_whole(model)
    return graph(model, layers, emit, time_limit_s)


def _check_whole(model: Source) -> None:
    """Refuse packed weights, whose elements are not the model's.

    Raises
    ------
    BadValue
        If a parameter is quantised.
    """
    packed = [name for name, p in model.module.named_parameters() if not p.is_floating_point() and p.ndim > 1]
    if packed:
        raise BadValue(
            f"{packed[0]} of {model.name} is quantised: a trace would take its bytes for its elements",
            "trace the model as it is before it is quantised, and plan that with --train qlora",
        )


def graph(
    model: Source,
    layers: str | None = None,
    emit: Emit = silent,
    limit_s: float | None = None,
    *,
    once: bool = True,
) -> ModelGraph:
    """The graph of a loaded source (see :func:`trace`, :func:`record_runs`)."""
    from .growth import bounds, misfit
    from .operators import group
    from .partition import partition
    from .runs import Context

    try:
        runs = record_runs(model, emit, limit_s, once=once)
    except BadValue as error:
        if not model.otherwise:
            raise
        raise BadValue(error.cause, f"trace {model.otherwise}; or {error.fix}") from error
    modules = dict(model.module.named_modules())
    parts = partition(model.module, runs.base, layers)
    groups = {part.name: group(part, modules) for part in parts}
    context = Context(runs, modules, dict(model.plan), runs.base.records)
    context.kept_by = kept_by(parts, groups, runs.base)
    context.single_bytes = single_bytes(model, layers, parts, groups, context)
    made = [layer(part, groups[part.name], runs, context) for part in parts]
    edges, uneven = flows(parts, runs)
    known = bounds(runs) if not uneven and not misfit(made, parts, groups, context) else (model.sequence,) * 2
    leftover(made, parts, context)
    return ModelGraph(
        name=model.name,
        family=model.family,
        sequence=model.sequence,
        layers=tuple(made),
        edges=edges,
        architecture=dict(model.architecture),
        source=model.text,
        sequences=known or msgspec.UNSET,
    )


def record_runs(model: Source, emit: Emit = silent, limit_s: float | None = None, *, once: bool = True) -> Runs:
    """The recordings of a model; without ``once`` alike blocks run each."""
    import torch

    from .growth import ENOUGH, LONG, alike, lengths, longer
    from .recording import WAYS, record
    from .repeats import Repeats
    from .runs import Runs
    from .watch import TooLong, Watch

    module = model.module.eval()
    half = copy.deepcopy(module).to(torch.bfloat16)
    length = model.sequence
    others = lengths(length) if model.has_sequence else []
    watch = Watch(emit, limit_s, 3 + len(others) + (3 < length < LONG))
    proven: frozenset[str] = frozenset()
    ways = list(WAYS)

    def run(module: Any, batch: int, sequence: int, dtype: Any = torch.bfloat16) -> Recording:
        nonlocal proven
        watch.next()
        repeats = Repeats(module, proven) if once else None
        made = record(module, cast(model.inputs(batch, sequence), dtype), batch, sequence, repeats, watch, ways)
        proven = repeats.proven if repeats and not proven else proven
        return made

    made: list[Recording] = []
    failed: list[int] = []

    def attempt(sequence: int) -> None:
        try:
            made.append(run(half, 2, sequence))
        except TooLong:
            raise
        except BadValue:
            failed.append(sequence)

    with sources.advice_off():
        # The short one comes first: what is alike is proven there, where a loop over positions takes little.
        for other in others:
            attempt(other)
        base, more = run(half, 2, length), run(half, 3, length)
        for other in longer(length, made) if others else []:
            attempt(other)
        if others and len(alike(base, made)) < ENOUGH:
            # One chunk alone may run other operators than several: one length more, of no whole chunks.
            watch.total += 1
            attempt(length // 2 + 1)
        single = run(module.float(), 2, length, torch.float32)
    if [r.op for r in base.records] != [r.op for r in more.records]:
        raise BadValue(f"{model.text} runs other operators for other batches", "trace a model with one path")
    return Runs(base, more, single, tuple(made), tuple(alike(base, made)), tuple(failed))


def cast(inputs: sources.Inputs, dtype: Any) -> sources.Inputs:
    """Inputs with their floating tensors in another precision."""
    import torch
    from torch.utils._pytree import tree_map

    def convert(value: Any) -> Any:
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(dtype) if floating else value

    return tree_map(convert, inputs)  # type: ignore[no-any-return]


def kept_by(parts: list[Part], groups: dict[str, list[Group]], recording: Recording) -> Any:
    """Kept tensors by layer and group: where first kept, or where made if several layers keep it."""
    place = {r.index: (p.name, i) for p in parts for i, g in enumerate(groups[p.name]) for r in g.records}
    writer: dict[int, int] = {s: r.index for r in recording.records if r.op != "dropout" for s in r.outputs}
    table: dict[str, dict[int, list[Any]]] = {part.name: defaultdict(list) for part in parts}
    for kept in recording.kept.values():
        keepers = {place[i][0] for i in kept.packs if i in place}
        home = place.get(kept.record)
        if len(keepers) > 1 and writer.get(kept.storage) in place:
            home = place[writer[kept.storage]]
        if home is not None:
            table[home[0]][home[1]].append(kept)
    return table


def single_bytes(
    model: Source, layers: str | None, parts: list[Part], groups: dict[str, list[Group]], context: Context
) -> dict[tuple[str, int], list[float]]:
    """Bytes per sample that each group keeps in fp32, where the fp32 run has the same groups.

    In the base run and in those alike: fp32 runs at one length, and what it keeps grows as the tensors of as many
    elements do that the same group, or else the same layer, keeps in bf16.
    """
    from .operators import group
    from .partition import partition

    runs = context.runs
    others = partition(model.module, runs.single, layers)
    again = {part.name: group(part, context.modules) for part in others}
    table: dict[tuple[str, int], list[float]] = {}
    single = kept_by(others, again, runs.single)
    for part in parts:
        if part.name not in again or kinds(again[part.name]) != kinds(groups[part.name]):
            continue
        base = context.kept_by[part.name]
        everywhere = [k for held in base.values() for k in held]
        for index in range(len(groups[part.name])):
            mine = base.get(index, [])
            if constant(mine, runs):
                continue
            sizes = {context.elements_kept(k)[0]: context.elements_kept(k) for k in reversed([*mine, *everywhere])}
            held = [(k.nbytes // k.dtype.itemsize, k.dtype.itemsize) for k in single[part.name].get(index, ())]
            if runs.alike and any(elements not in sizes for elements, _ in held):
                continue  # how it grows was not seen, and half a correction is none
            total = [0.0] * len(runs.lengths)
            for elements, size in held:
                seen = sizes.get(elements, [elements])
                total = [t + n * size / runs.base.batch for t, n in zip(total, seen, strict=True)]
            table[part.name, index] = total
    return table


def kinds(groups: list[Group]) -> list[tuple[str, str]]:
    """What must agree for two runs' groups to be compared."""
    return [(g.kind, g.path) for g in groups]


def constant(kept: Any, runs: Runs) -> bool:
    """Whether any of the tensors does not grow with the batch."""
    more = dict(zip(runs.base.kept, runs.batch.kept.values(), strict=False))
    return any(k.nbytes * runs.batch.batch != more[k.storage].nbytes * runs.base.batch for k in kept)


def layer(part: Part, groups: list[Group], runs: Runs, context: Context) -> Layer:
    """One layer with its operators and a word for what it is."""
    from .kept import kept_tensors
    from .operators import operators
    from .parallelism import tensor_parallel

    splits = tensor_parallel(part, groups, context)
    kept = kept_tensors(part, groups, runs, context, splits.sharded)
    made = operators(part, groups, context, splits, kept)
    present = {op.kind for op in made}
    causal = any(op.causal for op in made)
    if "attention" in present:
        word = "decoder" if causal else "encoder"
    elif "loss" in present:
        word = "head"
    elif "embedding" in present:
        word = "embedding"
    elif any(r.op == "convolution" for g in groups for r in g.records):
        word = "patch"
    else:
        word = "block" if part.block else "merge" if "gemm" in present else "norm" if "norm" in present else "glue"
    return Layer(part.name, word, made, part.module)


IDLE = 0.01
"""Share of a model's parameters that may be idle: a pooler, an unused head."""


def leftover(made: list[Layer], parts: list[Part], context: Context) -> None:
    """Give parameters that no record read to the layer that holds their module, by name.

    Raises
    ------
    BadValue
        If modules did not run that hold more than :data:`IDLE` of the model: what they cost is not known.
    """
    unread = {
        storage: (name, size)
        for storage, (name, size) in context.runs.base.parameters.items()
        if storage not in context.owners
    }
    total = sum(size for _, size in context.runs.base.parameters.values())
    idle = sum(size for _, size in unread.values())
    if idle > IDLE * total:
        modules = _outermost(context)
        raise BadValue(
            f"{idle:,} of {total:,} parameters did not run: {', '.join(modules[:4])}"
            + (f" and {len(modules) - 4} more" if len(modules) > 4 else ""),
            "trace with inputs that use them (a factory gives its own), or a model without them",
        )
    homes: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    frozen: dict[str, int] = defaultdict(int)
    for storage, (name, size) in unread.items():
        inside = [i for i, p in enumerate(parts) if p.module and name.startswith(f"{p.module}.")]
        home = name.rpartition(".")[0] or name
        homes[inside[0] if inside else len(parts) - 1][home] += size
        frozen[home] += size if storage in context.runs.base.frozen else 0
    for index, modules_of in homes.items():
        operators = [
            Operator(
                name=f"idle {module}",
                kind="pointwise",
                rows=Length(),
                parameters=size,
                frozen=frozen[module],
                passes=0.0,
            )
            for module, size in modules_of.items()
        ]
        made[index] = msgspec.structs.replace(made[index], operators=(*made[index].operators, *operators))


def _outermost(context: Context) -> list[str]:
    """The outermost modules of which no parameter was read, largest first."""
    read = {name for storage, (name, _) in context.runs.base.parameters.items() if storage in context.owners}
    sizes: dict[str, int] = defaultdict(int)
    for _, (name, size) in context.runs.base.parameters.items():
        if name not in read:
            path = name.split(".")
            prefixes = (".".join(path[:n]) for n in range(1, len(path)))
            sizes[next((p for p in prefixes if not any(r.startswith(f"{p}.") for r in read)), name)] += size
    return sorted(sizes, key=lambda module: -sizes[module])


def flows(parts: list[Part], runs: Runs) -> tuple[tuple[Flow, ...], str]:
    """Edges: who reads what another layer wrote, if it grows with the batch; and which does not go by rows."""
    place = {r.index: part.name for part in parts for r in part.records}
    tensors: dict[tuple[int, int], str] = {}
    count: dict[str, int] = defaultdict(int)
    edges: dict[tuple[str, str], Flow] = {}
    uneven = ""
    for part in parts:
        for record in part.records:
            for storage, producer in record.fed:
                source = place.get(producer)
                if source is None or source == part.name:
                    continue
                written = runs.base.records[producer]
                width = written.shape[-1] if written.shape else 1
                growth: list[Growth] = []
                rows = runs.per_sample(written, lambda r: r.elements // (r.shape[-1] if r.shape else 1), growth, "rows")
                if not rows.at(runs.base.sequence):
                    continue
                key = (storage, producer)
                if key not in tensors:
                    count[source] += 1
                    tensors[key] = f"{source}.out{count[source] if count[source] > 1 else ''}"
                tensor = tensors[key]
                if growth or any(r.shape[-1:] != written.shape[-1:] for r in runs.of(written)):
                    uneven = f"what {source} hands on does not grow by rows"
                edges.setdefault((tensor, part.name), Flow(source, part.name, tensor, rows, width))
    return tuple(edges.values()), uneven
