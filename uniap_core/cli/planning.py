"""``uniap plan`` and ``uniap candidate``: from a model's name to a plan, or to the tables of one candidate."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ..pipeline import placing
from ..posing import pose
from ..quoting import terminal
from . import Json, command, print_json, read_plan, say_interrupted
from .progress import progress

if TYPE_CHECKING:
    from ..advise.replan import Kept
    from ..cluster import Cluster
    from ..errors import Infeasible
    from ..events import Emit
    from ..problem import Problem
    from ..search import Search, Sweep


def _models(start: str) -> list[str]:
    """Model names for shell completion."""
    from ..models import names

    return [name for name in names() if name.startswith(start)]


def _clusters(start: str) -> list[str]:
    """Preset names for shell completion."""
    from ..cluster import PRESETS

    return [name for name in PRESETS if name.startswith(start)]


Model = Annotated[
    str,
    typer.Argument(
        help="Zoo name, graph.json, hf:CONFIG, or package.module:factory.", show_default=False, autocompletion=_models
    ),
]
ClusterOption = Annotated[
    str,
    typer.Option(
        "--cluster",
        "-c",
        help="Preset like 4x8xH100-80G (nodes x devices x kind), or a TOML file.",
        autocompletion=_clusters,
    ),
]
Batch = Annotated[int, typer.Option("--batch", "-b", min=1, help="Samples per iteration, over all devices.")]
Sequence = Annotated[int | None, typer.Option("--seq", min=1, help="Positions per sample (default: the model's own).")]
TokensOption = Annotated[
    int | None,
    typer.Option(
        "--tokens-per-device",
        min=1,
        help="Pack documents of --seq positions to so many tokens, a pack per micro-batch.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="bf16, fp16, fp32, tf32, fp8-delayed, fp8-tensorwise, fp8-blockwise, mxfp8, nvfp4 "
        "(default: the best of 16 bits and more that the devices have)."
    ),
]
Optimizer = Annotated[str, typer.Option(help="adamw, adam, sgd, adamw-8bit or adam-8bit.")]
StatesOption = Annotated[
    str, typer.Option("--states", help="mixed (fp32 moments, gradients and master weights), bf16-moments or bf16.")
]
LossOption = Annotated[str, typer.Option("--loss", help="whole, or chunked: logits of a piece of the rows at a time.")]
MarginOption = Annotated[
    float, typer.Option("--margin", min=0, max=0.99, help="Share of a device's memory that is left free.")
]
TrainOption = Annotated[
    str | None,
    typer.Option("--train", help="lora:r=16[,targets=q_proj+v_proj] or qlora: adapters beside frozen weights."),
]
FreezeList = Annotated[
    list[str], typer.Option("--freeze", help="Leave layers or modules as they are: 'vision_tower.*' (several allowed).")
]
ImbalanceOption = Annotated[
    float, typer.Option("--imbalance", min=1, help="Rows of the fullest expert-parallel rank over the mean.")
]
Schedule = Annotated[
    str,
    typer.Option(
        help="Pipeline schedule: a name, auto (1f1b and interleaved with all chunks), or any.",
        show_default="auto; 1f1b with a solver that has no bounds of its own",
    ),
]
CostModel = Annotated[str, typer.Option("--cost-model", help="Cost model plugin.")]
ProfileFile = Annotated[str | None, typer.Option("--profile", help="Measurements (uniap profile) to price from.")]
Executor = Annotated[str | None, typer.Option(help="Narrow the space to what this executor can launch.")]
SystemOption = Annotated[
    str | None,
    typer.Option(
        "--system", help="Software to price: megatron, nemo, deepspeed, fsdp, torchtitan (default: executor's)."
    ),
]
AttentionOption = Annotated[
    str | None,
    typer.Option("--attention", help="eager or fused (default: the software's; of traced models, as traced)."),
]
PinList = Annotated[
    list[str], typer.Option("--pin", help="Fix a choice: pp=4, 'tp<=4', 'layers.0-15:recompute=full', uniform.")
]

NodeOrderOption = Annotated[
    str | None, typer.Option(help="Unequal nodes in another order, as 2,0,1 (numbered from 0), or the best found.")
]


@command
def plan(
    model: Model,
    cluster: ClusterOption,
    batch: Batch,
    seq: Sequence = None,
    tokens_per_device: TokensOption = None,
    precision: Precision = None,
    optimizer: Optimizer = "adamw",
    states: StatesOption = "mixed",
    loss: LossOption = "whole",
    train: TrainOption = None,
    freeze: FreezeList = [],  # noqa: B006
    imbalance: ImbalanceOption = 1.0,
    margin: MarginOption = 0.06,
    schedule: Schedule = "",
    solver: Annotated[str, typer.Option(help="Solver plugin.")] = "dp",
    cost_model: CostModel = "analytic",
    profile: ProfileFile = None,
    executor: Executor = None,
    system: SystemOption = None,
    attention: AttentionOption = None,
    pin: PinList = [],  # noqa: B006
    max_strategies: Annotated[
        int | None, typer.Option(min=1, help="At most so many different strategies; 1 is a uniform plan.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many of the best candidates to solve to the end.")] = 1,
    time_limit: Annotated[float | None, typer.Option(min=0, help="Wall seconds for the whole sweep.")] = None,
    gap: Annotated[float, typer.Option(min=0, help="Relative gap that counts as optimal.")] = 1e-9,
    workers: Annotated[int, typer.Option(min=1, help="Processes that solve candidates side by side.")] = 1,
    node_order: NodeOrderOption = None,
    old: Annotated[str | None, typer.Option("--from", help="Old plan: change its layout as little as may be.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Write the plan file here.")] = None,
    json: Json = False,
) -> None:
    """Find the fastest plan over all stages, micro-batches and strategies, prove it, verify it."""
    import time

    from ..search import make

    began = time.perf_counter()
    with progress("planning", quiet=json) as emit:
        search = make(
            model,
            ordered(cluster, node_order),
            batch,
            seq=seq,
            tokens_per_device=tokens_per_device,
            precision=precision,
            optimizer=optimizer,
            states=states,  # type: ignore[arg-type]
            loss=loss,  # type: ignore[arg-type]
            train=train,
            freeze=freeze,
            imbalance=imbalance,
            margin=margin,
            schedule=schedule,
            solver=solver,
            cost_model=cost_model,
            profile=profile,
            executor=executor,
            system=system,
            attention=attention,  # type: ignore[arg-type]
            pins=[*pin, *([f"max_strategies={max_strategies}"] if max_strategies else [])],
            top=top,
            time_limit=time_limit,
            gap=gap,
            workers=workers,
            emit=emit,
        )
        found, remarks = _answered(search, old, node_order, output, emit, began)
    if found.interrupted:
        say_interrupted("this is the best plan so far")
    if json:
        return _print_files(found, remarks, single=top == 1)
    return _print_plans(found, [*remarks, *([("written", output)] if output else [])])


def _print_files(found: Sweep, remarks: list[tuple[str, str]], *, single: bool) -> None:
    from .. import plan as plans

    # A plan file has no place for what is true of the request and not of the plan.
    for word, text in remarks:
        print(f"{word}: {terminal(text)}", file=sys.stderr)
    print_json(plans.to_file(found.plan) if single else [plans.to_file(each) for each in found.plans])


def _answered(
    search: Search, old: str | None, node_order: str | None, output: str | None, emit: Emit, began: float
) -> tuple[Sweep, list[tuple[str, str]]]:
    """What a search found, written, and what there is to say of it: a word and a sentence each."""
    from .. import plan as plans
    from ..advise.orders import better_order
    from ..advise.prices import pin_prices
    from ..errors import Infeasible

    try:
        search, found, kept = _plan(search, old, node_order == "best", emit, began)
    except Infeasible as error:
        raise advised(error, search, emit, began) from None
    if output:
        written(lambda: plans.write(output, found.plan), plans.to_file(found.plan))
    prices = pin_prices(search, found, emit, began) if search.pins.pins and not found.interrupted else ()
    order = better_order(search, found, emit, began) if node_order is None and not found.interrupted else None
    remarks = [("pins", price.sentence()) for price in prices]
    if kept is not None:
        remarks.append(("kept", f"{kept.what}, {kept.slower:.1%} slower than a fresh plan"))
    if order is not None:
        remarks.append(("order", order.sentence()))
    return found, remarks


def _print_plans(found: Sweep, remarks: list[tuple[str, str]]) -> None:
    """Print the best plan, the others that were asked for, and what else there is to say, each under its word."""
    from rich.console import Console

    from ..report.terminal import print_plan

    console = Console(highlight=False, emoji=False)
    print_plan(found.plan, console, found.seconds)
    for number, other in enumerate(found.plans[1:], 2):
        slower = other.predicted.iteration_time_s / found.plan.predicted.iteration_time_s - 1
        console.print(f"\n[bold]number {number}[/], {slower:.2%} slower:")
        print_plan(other, console)
    for word, text in remarks:
        console.print(f"  [bold]{word:<9}[/] ", end="")
        console.print(terminal(text), markup=False, soft_wrap=True)


def ordered(cluster: str, node_order: str | None) -> str | Cluster:
    """A cluster with its nodes in the order that was asked for."""
    from ..cluster import load
    from ..errors import UsageError

    if node_order is None or node_order == "best":
        return cluster
    if not all(number.strip().isdecimal() for number in node_order.split(",")):
        raise UsageError(f"--node-order {node_order!r} is no order", "write node numbers with commas (2,0,1), or best")
    return load(cluster).reordered([int(number) for number in node_order.split(",")])


def _plan(search: Search, old: str | None, turn: bool, emit: Emit, began: float) -> tuple[Search, Sweep, Kept | None]:
    """Plan afresh, or away from an old plan with as little change as may be; on the best order of nodes if asked."""
    from ..advise.orders import better_order
    from ..advise.replan import replan
    from ..errors import NotEnoughTime
    from ..search import moved, sweep, within

    found, kept = (sweep(search, emit), None) if old is None else replan(read_plan(old), search, emit=emit)
    order = better_order(search, found, emit, began) if turn and not found.interrupted else None
    if order is not None:
        with contextlib.suppress(NotEnoughTime):
            turned = moved(search, search.cluster.reordered(order.order), search.training)
            return _plan(within(turned, began), old, False, emit, began)
    return search, found, kept


def written(write: Callable[[], None], document: object) -> None:
    """Write a result; one that cannot be written after all is printed before the error, so that it is not lost."""
    from ..errors import BadFile
    from . import Unwritten

    try:
        write()
    except BadFile as error:
        print_json(document)
        raise Unwritten(error.cause, error.fix) from None


def advised(error: Infeasible, search: Search, emit: Emit, began: float | None = None) -> Infeasible:
    """The same error with changes that were verified to make the request fit, where there are any."""
    from ..advise.relax import relaxations
    from ..errors import Infeasible

    changes = relaxations(search, emit, began)
    if not changes:
        return error
    tried = "; or ".join(f"{c.change} ({c.iteration_time_s:.3g} s per iteration)" for c in changes)
    return Infeasible(error.cause, f"each of these alone makes it fit, verified by a solve: {tried}")


@command
def candidate(
    model: Model,
    cluster: ClusterOption,
    batch: Batch,
    pp: Annotated[int, typer.Option("--pp", min=1, help="Pipeline stages.")],
    micro_batches: Annotated[int, typer.Option("--micro-batches", min=1, help="Micro-batches per iteration.")],
    vpp: Annotated[int, typer.Option("--vpp", min=1, help="Chunks per pipeline rank.")] = 1,
    seq: Sequence = None,
    tokens_per_device: TokensOption = None,
    precision: Precision = None,
    optimizer: Optimizer = "adamw",
    states: StatesOption = "mixed",
    loss: LossOption = "whole",
    train: TrainOption = None,
    freeze: FreezeList = [],  # noqa: B006
    imbalance: ImbalanceOption = 1.0,
    margin: MarginOption = 0.06,
    schedule: Schedule = "",
    cost_model: CostModel = "analytic",
    profile: ProfileFile = None,
    executor: Executor = None,
    system: SystemOption = None,
    attention: AttentionOption = None,
    pin: PinList = [],  # noqa: B006
    output: Annotated[str | None, typer.Option("--output", "-o", help="Write the problem file here.")] = None,
    write_mps: Annotated[
        str | None, typer.Option(help="Write it as a linear program for any solver here (.mps or .lp).")
    ] = None,
    json: Json = False,
) -> None:
    """Price one candidate and write its tables as a problem file, for any solver."""
    from .. import problem as problems
    from ..costs import Candidate, check_candidate, check_legal
    from ..program import files
    from ..search import make, price

    search = make(
        model,
        cluster,
        batch,
        seq=seq,
        tokens_per_device=tokens_per_device,
        precision=precision,
        optimizer=optimizer,
        states=states,  # type: ignore[arg-type]
        loss=loss,  # type: ignore[arg-type]
        train=train,
        freeze=freeze,
        imbalance=imbalance,
        margin=margin,
        schedule=schedule,
        cost_model=cost_model,
        profile=profile,
        executor=executor,
        system=system,
        attention=attention,  # type: ignore[arg-type]
        pins=pin,
    )
    chosen = Candidate.of(pp, micro_batches, search.training, placing(search.schedules, vpp), vpp)
    check_legal(chosen)
    check_candidate(search.cluster, chosen)
    posed = pose(price(search, chosen))
    if output:
        problems.write(output, posed)
    if write_mps:
        files.write(write_mps, posed)
    if json:
        return print_json(problems.to_file(posed))
    where = f" on {pp} ranks" if vpp > 1 else ""
    return _print_posed(f"{model} {posed.name}", posed, where, " and ".join(filter(None, (output, write_mps))))


def _print_posed(name: str, posed: Problem, where: str, kept: str) -> None:
    sizes = sorted({len(layer.strategies) for layer in posed.layers})
    count = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    print(
        f"{name}: {len(posed.layers)} layers, {posed.depth} stages{where}, {count} strategies per layer, "
        f"{len(posed.edges)} edges" + (f"; written to {kept}" if kept else "; give -o FILE to keep it")
    )
