"""The pictures of a report: timeline, stage bars, strategy map, candidates, solver curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..events import Incumbent
from ..plan import Plan
from ..proposal import CandidateProof, StagePlan
from ..strategy import SHARDINGS
from ..verify.orders import LETTERS
from ..verify.simulate import Simulation, simulate
from ..verify.timing import plan_pipeline
from ..verify.trace import STYLES, steps
from .svg import legend, line, picture, rectangle, text

WIDTH = 900.0
MARGIN = 74.0
TIMELINE_EVENTS = 6000
"""Rectangles that a timeline may have; longer ones show the first and the last micro-batches."""

TIME_STYLE = {
    "compute": "c1",
    "recompute": "c2",
    "tensor_parallel": "c3",
    "data_parallel": "c4",
    "resharding": "c5",
    "other": "c6",
}
MEMORY_STYLE = {"parameters": "c1", "gradients": "c3", "optimizer": "c4", "activations": "c2", "reserved": "c6"}
OUTCOME_STYLE = {"solved": "good", "pruned": "c6", "infeasible": "bad", "impossible": "none", "limit": "open"}
OUTCOME_LEGEND = (
    ("best", "the plan"),
    ("good", "solved"),
    ("c6", "proven no better"),
    ("bad", "does not fit"),
    ("none", "impossible"),
    ("open", "open"),
)


def timeline(plan: Plan) -> str:
    """One iteration as simulated: forward, backward and once-per-iteration work of every stage."""
    seen = simulate(plan_pipeline(plan.proposal))
    shown = _shown(seen)
    span = seen.simulated_s
    scale = (WIDTH - MARGIN - 4) / span
    row = min(26.0, max(8.0, 420 / plan.pp))
    parts = []
    for i in range(plan.pp):
        y = i * row
        parts.append(text(MARGIN - 6, y + row * 0.68, f"stage {i}", "label", "end"))
        parts.append(rectangle(MARGIN, y + 1, span * scale, row - 2, "track"))
        parts += _work(seen, i, y, row, scale, shown)
    parts += _seconds_axis(span, plan.pp * row, scale)
    drawn = f"first and last {shown} of {seen.pipeline.micro_batches}"
    skipped = "" if shown is None else f" ({drawn} micro-batches drawn)"
    description = (
        f"{plan.schedule} over {plan.pp} stages and {plan.micro_batches} micro-batches takes {seen.makespan_s:.4g} s, "
        f"{seen.bubble_share:.1%} of it idle{skipped}."
    )
    chart = picture("timeline", "Timeline of one iteration", description, WIDTH, plan.pp * row + 30, parts)
    split = bool(np.isfinite(seen.weight_end_s).any())
    words = [("forward", "forward"), ("backward", "backward"), ("once", "gradients and optimizer")]
    keys = legend([*words, ("c3", "gradient of the weights")] if split else words)
    return f"{chart}{keys}<p>{description}</p>"


STEP_STYLE = {"forward": "forward", "backward": "backward", "input gradient": "backward", "weight gradient": "c3"}


def _shown(seen: Simulation) -> int | None:
    p = seen.pipeline
    if 2 * p.depth * p.micro_batches <= TIMELINE_EVENTS:
        return None
    return max(1, TIMELINE_EVENTS // (4 * p.depth))


def _work(seen: Simulation, i: int, y: float, row: float, scale: float, shown: int | None) -> Iterator[str]:
    p = seen.pipeline
    several = p.depth > p.ranks
    own = [j for j, rank in enumerate(p.placed) if rank == i]
    shade = {j: f" k{n % 4}" for n, j in enumerate(own) if several}
    for ran in steps(seen, i):
        m, seconds = ran.micro_batch, ran.seconds
        if shown is not None and shown <= m < p.micro_batches - shown:
            continue
        x, width = MARGIN + ran.start_s * scale, seconds * scale
        where = f"chunk {ran.chunk} of stage {i}" if several else f"stage {i}"
        end = _milliseconds(ran.start_s + seconds)
        tip = f"{LETTERS[ran.kind]}{m} on {where}: {_milliseconds(seconds)}, ends at {end}"
        yield rectangle(
            x,
            y + 2,
            width - min(0.6, width * 0.1),
            row - 4,
            f"{STEP_STYLE[STYLES[ran.kind]]}{shade.get(ran.chunk, '')}",
            tip,
        )
        if width > 16 and row >= 14:
            yield text(x + width / 2, y + row * 0.66, str(m), "tiny", "middle")
    once, last = float(p.by_rank(p.iteration_s)[i]), float(seen.last_s[i])
    if once:
        tip = f"gradients and optimizer on stage {i}: {_milliseconds(once)}"
        yield rectangle(MARGIN + last * scale, y + 2, once * scale, row - 4, "once", tip)


def _seconds_axis(span: float, y: float, scale: float) -> Iterator[str]:
    step = 10 ** math.floor(math.log10(span))
    step = next(s for s in (step / 5, step / 2, step, step * 2) if span / s <= 8)
    for n in range(int(span / step) + 1):
        x = MARGIN + n * step * scale
        yield line(x, y, x, y + 5, "axis")
        yield text(x, y + 18, _milliseconds(n * step), "label", "middle")


def stage_times(plan: Plan) -> str:
    """Time per micro-batch of each stage, by cause, and of each transfer."""
    rows = [(f"stage {i}", stage.time_s, _named(stage.time_parts_s)) for i, stage in enumerate(plan.by_rank)]
    rows += [(ends, seconds, {"transfer": seconds}) for ends, seconds in plan.links_s.items()]
    most = max(total for _, total, _ in rows) or 1.0
    bars = _bars(rows, most, lambda value: _milliseconds(value), {**TIME_STYLE, "transfer": "c5"})
    slowest = max(rows, key=lambda r: r[1])
    description = f"The slowest is {slowest[0]} with {_milliseconds(slowest[1])} per micro-batch."
    height = len(rows) * 24 + 8
    used = [name for name in TIME_STYLE if any(name in parts for _, _, parts in rows)]
    keys = legend([(TIME_STYLE[name], name.replace("_", " ")) for name in used])
    return picture("times", "Time per micro-batch", description, WIDTH, height, bars) + keys + f"<p>{description}</p>"


def stage_memory(plan: Plan) -> str:
    """Peak memory per device of each stage, by part, against the limit."""
    stages = plan.by_rank
    rows = [(f"stage {i}", s.memory_bytes, _named(s.memory_parts_bytes)) for i, s in enumerate(stages)]
    most = max(s.memory_limit_bytes for s in stages)
    parts = [*_bars(rows, most, _gib, MEMORY_STYLE)]
    for i, stage in enumerate(stages):
        x = MARGIN + stage.memory_limit_bytes / most * _bar_width()
        parts.append(line(x, i * 24 + 2, x, i * 24 + 22, "limit"))
    fullest = max(range(plan.pp), key=lambda i: stages[i].memory_bytes / stages[i].memory_limit_bytes)
    stage = stages[fullest]
    description = (
        f"The fullest is stage {fullest}: {_gib(stage.memory_bytes)} of {_gib(stage.memory_limit_bytes)} per device, "
        f"with {stage.in_flight:.4g} micro-batches in flight. The line is the limit."
    )
    keys = legend([(MEMORY_STYLE[name], name) for name in MEMORY_STYLE])
    chart = picture("memory", "Memory per device", description, WIDTH, plan.pp * 24 + 8, parts)
    return chart + keys + f"<p>{description}</p>"


def _bar_width() -> float:
    return WIDTH - MARGIN - 90


def _bars(
    rows: Sequence[tuple[str, float, Mapping[str, float]]], most: float, say: object, styles: Mapping[str, str]
) -> Iterator[str]:
    assert callable(say)
    for n, (name, total, parts) in enumerate(rows):
        y, x = n * 24.0, MARGIN
        yield text(MARGIN - 6, y + 16, name, "label", "end")
        for part, value in parts.items():
            width = value / most * _bar_width()
            yield rectangle(x, y + 3, width, 18, styles.get(part, "c6"), f"{name}, {part}: {say(value)}")
            x += width
        yield text(x + 6, y + 16, say(total), "label")


def _named(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in parts.items() if value > 0}


def strategy_map(plan: Plan) -> str:
    """Every layer as a column: its stage, tensor parallel degree, sharding and recomputation."""
    layers = sorted(plan.layers, key=lambda layer: layer.stage)
    cell = (WIDTH - MARGIN - 4) / len(layers)
    degrees = sorted({layer.strategy.tp for layer in layers})
    parts = []
    for n, name in enumerate(("stage", "tensor par.", "sharding", "recompute")):
        parts.append(text(MARGIN - 6, n * 26 + 17, name, "label", "end"))
    for n, layer in enumerate(layers):
        x, gap = MARGIN + n * cell, min(1.0, cell * 0.1)
        strategy = layer.strategy
        rank, chunk = plan.chunks[layer.stage], f", chunk {layer.stage}" if plan.vpp > 1 else ""
        tip = f"{layer.name}: stage {rank}{chunk}, {strategy.words}"
        styles = (
            f"s{layer.stage % 2}",
            f"heat{min(4, degrees.index(strategy.tp))}",
            f"heat{SHARDINGS.index(strategy.sharding)}",
            f"heat{ {'none': 0, 'full': 4}.get(strategy.recompute, 2) }",
        )
        parts += [rectangle(x, row * 26 + 2, cell - gap, 22, style, tip) for row, style in enumerate(styles)]
        values = (str(rank), str(strategy.tp), strategy.sharding.removeprefix("zero"), strategy.recompute[0])
        if cell >= 15:
            parts += [
                text(x + cell / 2, row * 26 + 17, "-" if value in ("none", "n") else value, "tiny", "middle")
                for row, value in enumerate(values)
            ]
    used = len({layer.strategy for layer in layers})
    several = f" of {plan.vpp} chunks" if plan.vpp > 1 else ""
    description = (
        f"{len(layers)} layers on {plan.pp} stage{'s' * (plan.pp > 1)}{several} under {used} "
        f"strateg{'y' if used == 1 else 'ies'}; darker is more tensor parallelism, sharding, recomputation."
    )
    return picture("map", "Strategy of every layer", description, WIDTH, 4 * 26 + 6, parts) + f"<p>{description}</p>"


def candidates(proof: Sequence[CandidateProof], best_s: float) -> str:
    """All candidates as a grid of stages against micro-batches, by what was proven of them.

    Of those that differ in chunks alone the best is drawn; hovering says all.
    """
    rows = list(dict.fromkeys((record.schedule, record.pp) for record in proof))
    counts = sorted({record.micro_batches for record in proof})
    cells: dict[tuple[tuple[str, int], int], list[CandidateProof]] = {}
    for record in proof:
        cells.setdefault(((record.schedule, record.pp), record.micro_batches), []).append(record)
    several = len({schedule for schedule, _ in rows}) > 1
    margin = MARGIN + (80 if several else 0)
    width, height = (WIDTH - margin - 4) / len(counts), 34.0
    parts = []
    for (place, count), alike in cells.items():
        record = min(alike, key=_rank)
        x, y = margin + counts.index(count) * width, rows.index(place) * height
        value = record.objective_s if record.outcome == "solved" else record.bound_s
        said = "" if value is None else f"{'' if record.outcome == 'solved' else '≥ '}{value / best_s:.3g}x"
        said += f" v{record.vpp}" if said and record.vpp > 1 else ""
        best = record.objective_s is not None and record.objective_s <= best_s * (1 + 1e-9)
        style = "best" if best else OUTCOME_STYLE[record.outcome]
        parts.append(rectangle(x + 1, y + 1, width - 2, height - 2, f"cell {style}", _tip(alike), 3))
        if width > (56 if record.vpp > 1 else 40):
            parts.append(text(x + width / 2, y + 21, said, "tiny", "middle"))
    for n, (schedule, pp) in enumerate(rows):
        name = f"{schedule}, pp {pp}" if several else f"pp {pp}"
        parts.append(text(margin - 6, n * height + 21, name, "label", "end"))
    bottom = len(rows) * height
    for count in counts:
        x = margin + (counts.index(count) + 0.5) * width
        parts.append(text(x, bottom + 16, str(count), "label", "middle"))
    parts.append(text(margin, bottom + 34, "micro-batches; figures are times relative to the best", "label"))
    depths = len({pp for _, pp in rows})
    description = f"{len(proof)} candidates, {depths} stage counts by {len(counts)} micro-batch counts."
    if len(cells) < len(proof):
        description = f"{description[:-1]}; of each, the best number of chunks (v) is drawn."
    keys = legend(OUTCOME_LEGEND)
    return picture("proof", "What was proven of every candidate", description, WIDTH, bottom + 44, parts) + keys


def _rank(record: CandidateProof) -> tuple[bool, float, float]:
    """Of candidates that differ in chunks alone, the fastest first, then the least bound."""
    bound = math.inf if record.bound_s is None else record.bound_s
    return record.objective_s is None, record.objective_s or bound, bound


def _tip(alike: Sequence[CandidateProof]) -> str:
    first = alike[0]
    head = f"pp {first.pp}, {first.micro_batches} micro-batches: "
    if len(alike) == 1 and first.vpp == 1:
        return f"{head}{first.outcome}. {first.note}"
    return head + "; ".join(f"vpp {r.vpp} {r.outcome}{f' ({r.note})' if r.note else ''}" for r in alike)


def curves(trajectory: Sequence[Incumbent]) -> str:
    """Incumbent and bound of the winning candidate against time."""
    points = [e for e in trajectory if e.objective_s is not None or e.bound_s is not None]
    values = [v for e in points for v in (e.objective_s, e.bound_s) if v is not None and v > 0]
    if not values:
        return "<p>The solver reported nothing on its way.</p>"
    end = max(e.t_s for e in points) or 1.0
    low, high = min(values), max(values)
    pad = max((high - low) * 0.08, high * 0.001)
    low, high = low - pad, high + pad

    def place(t: float, value: float) -> tuple[float, float]:
        return MARGIN + t / end * (WIDTH - MARGIN - 130), 10 + (high - value) / (high - low) * 180

    parts = []
    for fraction in (0.0, 0.5, 1.0):
        value = low + fraction * (high - low)
        x, y = place(0.0, value)
        parts.append(line(x, y, WIDTH - 130, y, "grid"))
        parts.append(text(MARGIN - 6, y + 4, f"{value:.5g} s", "label", "end"))
    for kind, style in (("objective_s", "incumbent"), ("bound_s", "bound")):
        seen = [(e.t_s, value) for e in points if (value := getattr(e, kind)) is not None]
        if not seen:
            continue
        corners = [place(t, v) for t, v in seen] + [place(end, seen[-1][1])]
        path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in corners[1:])
        parts.append(f'<path class="{style}" d="{path}"/>')
        label = "incumbent" if kind == "objective_s" else "bound"
        parts.append(text(WIDTH - 124, corners[-1][1] + (4 if kind == "objective_s" else 16), label, "label"))
    parts.append(text(WIDTH - 130, 212, _milliseconds(end), "label", "end"))
    description = f"From the first incumbent to the proof in {_milliseconds(end)}."
    chart = picture("curves", "Incumbent and bound", description, WIDTH, 220, parts)
    return chart + f"<p>{description} Solid: incumbent; dashed: bound.</p>"


def stage_rows(stages: Sequence[StagePlan], names: Sequence[str]) -> list[tuple[str, ...]]:
    """The stages as rows of a table, for people who read rather than look; ``names`` says which each is."""
    return [
        (
            name,
            f"{s.ranks[0]}-{s.ranks[-1]}" if len(s.ranks) > 1 else str(s.ranks[0]),
            str(len(s.layers)),
            _milliseconds(s.time_s),
            f"{_gib(s.memory_bytes)} of {_gib(s.memory_limit_bytes)}",
            f"{s.in_flight:g}",
        )
        for name, s in zip(names, stages, strict=True)
    ]


def _milliseconds(seconds: float) -> str:
    return f"{seconds:.4g} s" if seconds >= 1 else f"{seconds * 1e3:.4g} ms"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
