"""``uniap run``, ``export``, ``trace``, ``profile``, ``estimate``, ``calibrate``: to and from real machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import Json, command, print_json
from .advice import PlanFile, PricedFrom, measured
from .progress import progress

if TYPE_CHECKING:
    from ..execute import Job, RunReport

TrustSource = Annotated[
    bool, typer.Option("--trust-source", help="Import the module that the file names as its model's source.")
]
Out = Annotated[str | None, typer.Option("--output", "-o", help="Where to write.")]


@command
def run(
    plan: PlanFile,
    executor: Annotated[str, typer.Option(help="Executor plugin.")] = "fsdp",
    steps: Annotated[int, typer.Option(min=1, help="Iterations in total.")] = 5,
    learning_rate: Annotated[float, typer.Option(help="Of the plan's optimizer.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of weights and synthetic data.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    data: Annotated[str, typer.Option(help="A .npy file of token ids (default: synthetic samples).")] = "",
    checkpoint: Annotated[str, typer.Option(help="Folder to write checkpoints to.")] = "",
    checkpoint_every: Annotated[int, typer.Option(min=0, help="Steps between checkpoints (0: at the end).")] = 0,
    resume: Annotated[str, typer.Option(help="Checkpoint to start from, made under any plan of the model.")] = "",
    check_memory: Annotated[bool, typer.Option(help="Refuse a machine with less free memory than planned.")] = True,
    profile: PricedFrom = None,
    trust_source: TrustSource = False,
    output: Out = None,
    json: Json = False,
) -> None:
    """Train the model under a plan on this machine; prints losses, and predicted against measured."""
    from .. import artifact, registry, trust
    from .. import plan as plans
    from ..errors import UsageError
    from ..gate import launch

    chosen = registry.load("executor", executor)
    if not chosen.launch:
        raise UsageError(
            f"{executor} does not launch", f"export the plan instead: uniap export {plan} --to {executor} -o DIR"
        )
    _installed(chosen)
    job = _job(
        {
            "steps": steps,
            "learning_rate": learning_rate,
            "seed": seed,
            "device": device,
            "data": data,
            "checkpoint": checkpoint,
            "checkpoint_every": checkpoint_every,
            "resume": resume,
            "check_memory": check_memory,
        }
    )
    subject = plans.read(plan)
    if trust_source:
        trust.allow(subject.model.source)
    with progress("training", quiet=json) as emit:
        report = launch(subject, chosen, job, emit, measured(profile))
    if output:
        artifact.write(output, report)
    if json:
        return print_json(report)
    _print_run(report)
    return None


def _job(fields: dict[str, Any]) -> Job:
    import msgspec

    from ..errors import UsageError
    from ..execute import Job

    try:
        return msgspec.convert(fields, Job)
    except msgspec.ValidationError as error:
        raise UsageError(f"the options of the run: {error}", "uniap run --help says what they may be") from None


def _print_run(report: RunReport) -> None:
    for number, (loss, seconds) in enumerate(zip(report.losses, report.step_s, strict=True), report.first_step + 1):
        print(f"step {number:<5} loss {loss:<12.6g} {seconds:.3f} s")
    print(f"per iteration: predicted {report.predicted_time_s:.4g} s, measured {report.measured_time_s:.4g} s")
    for stage in report.stages:
        print(
            f"  stage {stage.stage}: {stage.predicted_time_s * 1e3:.4g} ms predicted, "
            f"{stage.measured_time_s * 1e3:.4g} ms measured; memory {stage.predicted_memory_bytes / 2**30:.2f} GiB "
            f"predicted, {stage.measured_memory_bytes / 2**30:.2f} GiB measured"
        )
    for note in report.notes:
        print(f"  note: {note}")


@command
def export(
    plan: PlanFile,
    to: Annotated[str, typer.Option("--to", help="megatron, torchtitan or fsdp.", show_default=False)],
    folder: Annotated[str, typer.Option("--output", "-o", help="Folder to write to.", show_default=False)],
    profile: PricedFrom = None,
    trust_source: TrustSource = False,
    json: Json = False,
) -> None:
    """Write what a stock runtime needs to run a plan; a plan it cannot run is refused with the nearest one."""
    from .. import plan as plans
    from .. import trust
    from ..export import export as write

    subject = plans.read(plan)
    if trust_source:
        trust.allow(subject.model.source)
    with progress("exporting", quiet=json) as emit:
        files = write(subject, to, folder, measured(profile), emit)
    if json:
        return print_json({"files": files})
    print("\n".join(files))
    return None


@command
def trace(
    model: Annotated[str, typer.Argument(help="hf:DIR_OR_JSON or package.module:factory.", show_default=False)],
    seq: Annotated[
        int | None, typer.Option("--seq", min=1, help="Positions per sample (default: the model's own).")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Modules that are layers, as in 'model.layers.*'.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=0, help="Seconds before it gives up (default: the tracer's, 300).")
    ] = None,
    output: Out = None,
    json: Json = False,
) -> None:
    """Turn a torch model into a graph file: no weights, no download, no GPU."""
    from .. import artifact, models

    with progress("tracing", quiet=json) as emit:
        graph = models.trace(model, seq, layers, emit=emit, time_limit_s=time_limit)
    if output:
        artifact.write(output, graph)
    if json:
        return print_json(graph)
    where = f"; written to {output}" if output else "; give -o FILE to keep it"
    trained = f" ({graph.trained:,} trained)" if graph.trained < graph.parameters else ""
    length = f", sequence {graph.sequence}" if graph.counts_positions else ""
    print(f"{graph.name}: {len(graph.layers)} layers, {graph.parameters:,} parameters{trained}{length}{where}")
    return None


@command
def profile(
    model: Annotated[str, typer.Argument(help="Model whose layers are measured.")] = "gpt2",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seq: Annotated[int | None, typer.Option("--seq", min=1, help="Positions per sample.")] = None,
    precision: Annotated[str | None, typer.Option(help="bf16, fp16 or fp32 (default: bf16, on a CPU fp32).")] = None,
    tp: Annotated[str, typer.Option(help="Tensor parallel widths.")] = "1,2,4,8",
    samples: Annotated[str, typer.Option(help="Samples per device and micro-batch.")] = "1,2,4",
    ranks: Annotated[
        int | None, typer.Option(min=0, help="Processes between which links are measured (default: GPUs here, or 4).")
    ] = None,
    links: Annotated[
        str | None, typer.Option(help="File of links of several nodes (docs/howto/profile.md), instead of measuring.")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Profile file; an unfinished one is resumed.")] = (
        "profile.json"
    ),
    trust_source: TrustSource = False,
    json: Json = False,
) -> None:
    """Measure layers, collectives and matrix products on this machine, for uniap plan --profile."""
    from .. import models, trust

    with progress("tracing", quiet=json) as emit:
        graph = models.load(model, seq, emit=emit)
    if trust_source:
        trust.allow(graph.source)
    trust.check(graph.source)
    measure = models.profiler()
    with progress("measuring", quiet=json) as emit:
        found = measure(
            graph,
            device,
            output,
            emit,
            tp=_counts("tp", tp),
            samples=_counts("samples", samples),
            precision=precision,
            ranks=ranks,
            links=links,
        )
    if json:
        return print_json(found)
    print(
        f"{found.device}: {len(found.layers)} layer timings, {len(found.collectives)} collectives, written to {output}"
    )
    for note in found.notes:
        print(f"  note: {note}")
    return None


def _counts(name: str, text: str) -> tuple[int, ...]:
    """Positive integers separated by commas."""
    from ..errors import BadValue

    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = (0,)
    if min(counts) < 1:
        raise BadValue(f"--{name} {text!r} is not a list of positive numbers", f"write it as --{name} 1,2,4")
    return counts


@command
def estimate(
    runs: Annotated[str, typer.Argument(help="CSV of runs with their plans (docs/formats.md).", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", help="CSV to write.", show_default=False)],
    cost_model: Annotated[str, typer.Option(help="Cost model plugin.")] = "analytic",
    json: Json = False,
) -> None:
    """Predict time and memory of runs whose plans are given."""
    from ..estimate import estimate_file

    count = estimate_file(runs, output, cost_model)
    if json:
        return print_json({"predicted": count, "output": output})
    print(f"{count} rows predicted, written to {output}")
    return None


@command
def calibrate(
    runs: Annotated[str, typer.Argument(help="CSV of measured runs with their plans.", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", help="File of constants; UNIAP_CONSTANTS may name it.")] = (
        "constants.toml"
    ),
    cost_model: Annotated[str, typer.Option(help="Cost model plugin.")] = "analytic",
    json: Json = False,
) -> None:
    """Fit the physical constants of your devices to a few measured runs (column iter_time_s)."""
    from ..estimate import calibrate_file

    found = calibrate_file(runs, output, cost_model)
    if json:
        return print_json({"generations": found, "output": output})
    for generation, fit in found.items():
        print(f"{generation}: {fit.runs} runs, error {fit.error_before:.1%} before, {fit.error_after:.1%} after")
        for name, (low, high) in fit.intervals.items():
            print(f"  {name:<18} {fit.constants[name]:.3g}   ({low:.3g} to {high:.3g})")
    print(f"written to {output}; export UNIAP_CONSTANTS={output} to use it")
    return None


def _installed(plugin: Any) -> None:
    from .. import registry
    from ..errors import PluginError

    absent = registry.missing(plugin.modules)
    if absent:
        raise PluginError(f"{plugin.name} needs {', '.join(absent)}", plugin.install)
