"""A plan at a glance, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from ..plan import Plan
from ..proposal import StagePlan
from ..quoting import line
from .runs import gathered, runs
from .words import axes_searched, proof_line, time_shares, unusual

WIDTH = 80
BAR = 16
TITLE = 30
"""Columns for the names of layers."""

MANY_RUNS = 5
"""Past this many runs a stage is shown by strategy instead."""

MANY_CHUNKS = 4
"""Past this many chunks per stage only its first and its last are shown."""

MANY_STAGES = 8
"""Past this many stages only the first, the last and those that differ are shown in full."""

WIDTH = 68
"""Columns beside the words on the left."""


def print_plan(plan: Plan, console: Console, seconds: float | None = None) -> None:
    """Print a plan: headline, stages, where the time goes, proof."""
    for text in lines(plan, seconds):
        console.print(text, soft_wrap=True)


def lines(plan: Plan, seconds: float | None = None) -> Iterator[Text]:
    """The lines of :func:`print_plan`."""
    yield _headline(plan)
    chunks = f" x {plan.vpp} chunks" if plan.vpp > 1 else ""
    yield Text(
        f"  {plan.pp} stage{'s' * (plan.pp > 1)}{chunks} x {plan.micro_batches} micro-batch"
        f"{'es' * (plan.micro_batches > 1)} of {plan.global_batch // plan.micro_batches}, {plan.schedule}"
    )
    rates = f"  {_time(plan.predicted.iteration_time_s)} per iteration, {plan.predicted.samples_per_s:.4g} samples/s"
    if plan.model.counts_positions and plan.predicted.tokens_per_s is not None:
        rates += f", {plan.predicted.tokens_per_s:.4g} tokens/s"
    yield Text(rates, style="bold green")
    yield Text()
    yield from _stages(plan)
    yield Text()
    shares = sorted(time_shares(plan.proposal).items(), key=lambda item: -item[1])
    shown = [f"{name.replace('_', ' ')} {share:.0%}" for name, share in shares if share >= 0.005]
    yield Text("  time      ", style="bold") + Text(", ".join(shown))
    proof = proof_line(plan.proof, plan.bound_s, plan.predicted.iteration_time_s, axes_searched(plan.proposal))
    for number, piece in enumerate(textwrap.wrap(proof, WIDTH, break_long_words=False)):
        yield Text(f"  {'' if number else 'proof':<10}", style="bold") + Text(piece)
    checks = f"{len(plan.verdict.checks)} checks passed"
    yield Text("  verified  ", style="bold") + Text(checks if seconds is None else f"{checks}, {seconds:.2f} s in all")


def _headline(plan: Plan) -> Text:
    title = Text(line(plan.model.name), style="bold")
    words = [plan.precision, *(f"{name} {value}" for name, value in unusual(plan.training).items())]
    words += [" ".join(option) for option in plan.model.chosen]
    if plan.model.trained < plan.model.parameters:
        words.append(f"{plan.model.trained:,} of {plan.model.parameters:,} parameters trained")
    sequence = f"sequence {plan.sequence}, " if plan.model.counts_positions else ""
    where = f" on {plan.cluster.name}, batch {plan.global_batch}, {sequence}{', '.join(words)}"
    return title + Text(line(where))


def _stages(plan: Plan) -> Iterator[Text]:
    by_stage: dict[int, list[Text]] = {}
    for run in gathered(runs(plan.proposal), MANY_RUNS):
        rank = plan.chunks[run.stage]
        if plan.vpp > MANY_CHUNKS and 1 <= run.stage // plan.pp < plan.vpp - 1:
            if run.stage // plan.pp == 1:
                more = Text(f"    ... {plan.vpp - 2} more chunks ...", style="dim")
                by_stage[rank] = [*(text for text in by_stage[rank] if text != more), more]
            continue
        chunk = f"{run.stage:>3}: " if plan.vpp > 1 else ""
        wide = TITLE - len(chunk)
        title = run.title if len(run.title) <= wide else f"{len(run.layers)} layers, {run.layers[0]} ..."
        by_stage.setdefault(rank, []).append(Text(f"    {chunk}{line(title):<{wide}} {run.strategy.words}"))
    for i, stage in enumerate(plan.by_rank):
        if plan.pp > MANY_STAGES and 2 <= i < plan.pp - 2:
            if i == 2:
                yield Text(f"  ... {plan.pp - 4} more stages (uniap report shows all) ...", style="dim")
            continue
        yield _stage_line(i, stage)
        yield from by_stage[i]


def _stage_line(i: int, stage: StagePlan) -> Text:
    share = stage.memory_bytes / stage.memory_limit_bytes
    filled = min(BAR, round(share * BAR))
    color = "green" if share < 0.85 else "yellow" if share <= 0.98 else "red"
    ranks = f"{stage.ranks[0]}-{stage.ranks[-1]}" if len(stage.ranks) > 1 else str(stage.ranks[0])
    head = Text(f"  stage {i:<3}", style="bold") + Text(f"ranks {ranks:<12}{_time(stage.time_s):>9}  ")
    bar = Text("█" * filled, style=color) + Text("░" * (BAR - filled), style="dim")
    memory = f" {stage.memory_bytes / 2**30:.1f} of {stage.memory_limit_bytes / 2**30:.1f} GiB"
    return head + bar + Text(memory)


def _time(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds:.2e} s"
