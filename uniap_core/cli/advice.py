"""``uniap explain``, ``diff``, ``sweep``: reasons, differences, and what to rent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import Json, command, print_json, read_plan, say_interrupted
from .planning import (
    CostModel,
    Executor,
    FreezeList,
    LossOption,
    MarginOption,
    Model,
    Optimizer,
    PinList,
    Precision,
    ProfileFile,
    Schedule,
    Sequence,
    StatesOption,
    TrainOption,
)
from .progress import progress

if TYPE_CHECKING:
    from ..profile import Profile

PlanFile = Annotated[str, typer.Argument(help="A uniap.plan/1 file.", show_default=False)]
PricedFrom = Annotated[str | None, typer.Option("--profile", help="The profile that the plan was priced from.")]


def measured(path: str | None) -> Profile | None:
    """The profile of a file, if one is named."""
    from .. import artifact
    from ..profile import Profile

    return None if path is None else artifact.read(path, Profile)


@command
def explain(
    plan: PlanFile,
    layer: Annotated[str | None, typer.Option(help="Ask about this layer.")] = None,
    why_not: Annotated[str | None, typer.Option("--why-not", help="Force this (tp=4) and say what it loses.")] = None,
    profile: PricedFrom = None,
    json: Json = False,
) -> int:
    """Say why a plan is as it is: bottleneck, binding constraints, and what an alternative would cost."""
    from ..advise import why

    subject = read_plan(plan)
    reasons = why.explain(subject)
    where = None if layer is None else why.of_layer(subject, layer)
    other = None
    if why_not is not None:
        with progress("planning the alternative", quiet=json) as emit:
            other = why.why_not(subject, why_not, layer, emit, profile=measured(profile))
    if json:
        print_json({"explanation": reasons, "layer": where, "alternative": other})
    else:
        for sentence in (*reasons.sentences, *([where] if where else []), *([other.reason] if other else [])):
            print(f"- {sentence}")
    return 1 if other is not None and other.slower is None else 0


@command
def diff(
    old: PlanFile,
    new: Annotated[str, typer.Argument(help="Another plan of the same model.", show_default=False)],
    json: Json = False,
) -> None:
    """Show what changes between two plans and what it buys, stage by stage."""
    from ..report.diff import difference, lines

    found = difference(read_plan(old).proposal, read_plan(new).proposal)
    if json:
        return print_json(found)
    print("\n".join(lines(found)))
    return None


@command
def sweep(
    model: Model,
    cluster: Annotated[list[str], typer.Option("--cluster", "-c", help="Preset or TOML file; give several.")],
    batch: Annotated[list[int], typer.Option("--batch", "-b", min=1, help="Samples per iteration; give several.")],
    seq: Sequence = None,
    precision: Precision = None,
    optimizer: Optimizer = "adamw",
    states: StatesOption = "mixed",
    loss: LossOption = "whole",
    train: TrainOption = None,
    freeze: FreezeList = [],  # noqa: B006
    margin: MarginOption = 0.06,
    schedule: Schedule = "",
    cost_model: CostModel = "analytic",
    profile: ProfileFile = None,
    executor: Executor = None,
    pin: PinList = [],  # noqa: B006
    csv: Annotated[str | None, typer.Option(help="Write the table here.")] = None,
    plot: Annotated[str | None, typer.Option(help="Draw the Pareto here (.png, .svg or .pdf).")] = None,
    json: Json = False,
) -> int:
    """Plan many jobs and show which are worth it: speed, devices, price per token. Answers how many to rent."""
    from .. import artifact, interrupts
    from ..advise import grid
    from ..cluster import load
    from ..search import make

    clusters = [load(name) for name in cluster]

    def keep(points: tuple[grid.Point, ...]) -> None:
        if csv:
            artifact.write_text(csv, grid.to_csv(points))

    with progress("planning jobs", quiet=json) as emit:
        search = make(
            model,
            clusters[0],
            batch[0],
            seq=seq,
            precision=precision,
            optimizer=optimizer,
            states=states,  # type: ignore[arg-type]
            loss=loss,  # type: ignore[arg-type]
            train=train,
            freeze=freeze,
            margin=margin,
            schedule=schedule,
            cost_model=cost_model,
            profile=profile,
            executor=executor,
            pins=pin,
            emit=emit,
        )
        points = grid.grid(search, clusters, batch, emit, keep)
    interrupted = interrupts.came() is not None
    if interrupted:
        say_interrupted(f"{len(points)} of {len(clusters) * len(batch)} jobs were planned")
    if plot:
        from ..report.pareto import draw

        draw(points, plot, title=search.graph.name)
    if json:
        print_json(points)
    else:
        _print_points(points)
    return interrupts.exit_code() if interrupted else 0


def _print_points(points: tuple[object, ...]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..advise.grid import Point

    tokens = any(isinstance(p, Point) and p.tokens_per_s is not None for p in points)
    unit = "tokens/s" if tokens else "samples/s"
    table = Table("", "cluster", "batch", unit, "per device", "price/M tokens", "plan", box=box.SIMPLE_HEAD)
    for point in points:
        assert isinstance(point, Point)
        if point.speed is None:
            table.add_row("", point.cluster, str(point.global_batch), "-", "-", "-", point.note.split(":")[-1][:40])
            continue
        price = point.price_per_million_tokens
        table.add_row(
            "*" if point.pareto else "",
            point.cluster,
            str(point.global_batch),
            f"{point.speed:.4g}",
            f"{point.speed / point.devices:.4g}",
            "-" if price is None else f"{price:.4g}",
            f"pp{point.pp} x {point.micro_batches}",
        )
    Console(highlight=False, markup=False).print(table)
    print("* nothing listed is faster with as few devices at the same price")
