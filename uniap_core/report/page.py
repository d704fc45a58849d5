"""A plan as one self-contained HTML page: no network, no script; readable on a phone, in print, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from ..events import Incumbent
from ..pipeline import words_of
from ..plan import Plan
from ..quoting import html as escape
from ..quoting import shell
from . import charts
from .runs import gathered, runs
from .words import axes_searched, proof_line, time_shares, unusual


def page(
    plan: Plan,
    *,
    trajectory: Sequence[Incumbent] = (),
    reasons: Sequence[str] = (),
    what_ifs: Sequence[str] = (),
    doubts: Sequence[str] = (),
) -> str:
    """The report of a plan.

    Parameters
    ----------
    plan
        A sealed plan.
    trajectory
        Incumbents and bounds of the winning candidate, if it was solved again for the report.
    reasons
        Sentences on why the plan is as it is.
    what_ifs
        Sentences on alternatives and what they cost.
    doubts
        What speaks against the plan (:func:`uniap_core.gate.doubts`): it comes first.
    """
    sections = [
        ("doubts", "This plan does not hold", _list(doubts)),
        ("plan", "The plan", _runs(plan)),
        ("when", "One iteration", charts.timeline(plan)),
        ("time", "Time of the stages", charts.stage_times(plan) + _shares(plan)),
        ("fit", "Memory", charts.stage_memory(plan) + _stage_table(plan)),
        ("layers", "Layers", charts.strategy_map(plan)),
        ("why", "Why this plan", _list(reasons)),
        ("what-if", "What if", _list(what_ifs)),
        ("proven", "Proof", f"<p>{escape(_proof(plan))}</p>" + _candidates(plan)),
        ("solver", "Solver", charts.curves(trajectory) if trajectory else ""),
        ("checks", "Verification", _checks(plan, doubts)),
        ("again", "Reproduce", _reproduce(plan)),
    ]
    kept = [(name, title, body) for name, title, body in sections if body]
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in kept)
    body = "".join(f'<section id="{name}"><h2>{escape(title)}</h2>{text}</section>' for name, title, text in kept)
    style = resources.files("uniap_core").joinpath("report/page.css").read_text()
    title = f"{plan.model.name} on {plan.cluster.name}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{escape(title)}: plan</title>'
        f'<link rel="icon" href="data:,"><style>{style}</style></head><body>'
        f"<header><h1>{escape(title)}</h1>{_cards(plan)}<nav aria-label='sections'>{links}</nav></header>"
        f"<main>{body}</main></body></html>\n"
    )


def _cards(plan: Plan) -> str:
    predicted = plan.predicted
    cards = [
        (f"{predicted.iteration_time_s:.4g} s", "per iteration"),
        _speed(plan),
        (f"{plan.shape} x {plan.micro_batches}", "stages x chunks x micro-batches")
        if plan.vpp > 1
        else (f"{plan.pp} x {plan.micro_batches}", "stages x micro-batches"),
        (f"{plan.global_batch}", f"samples{_positions(plan)}, {plan.precision}, {plan.schedule}"),
        (f"{plan.cluster.devices}", f"devices: {plan.cluster.name}"),
    ]
    inner = "".join(f"<div><b>{escape(figure)}</b><span>{escape(unit)}</span></div>" for figure, unit in cards)
    return f'<div class="cards">{inner}</div>'


def _positions(plan: Plan) -> str:
    return f" of {plan.sequence} positions" if plan.model.counts_positions else ""


def _speed(plan: Plan) -> tuple[str, str]:
    said = plan.predicted
    if plan.model.counts_positions and said.tokens_per_s is not None:
        return f"{said.tokens_per_s:,.0f}", f"tokens/s ({said.samples_per_s:.4g} samples/s)"
    return f"{said.samples_per_s:.4g}", "samples/s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _runs(plan: Plan) -> str:
    rows = [
        (_place(plan, run.stage), run.title if len(run.title) < 60 else f"{len(run.layers)} layers", run.strategy.words)
        for run in gathered(runs(plan.proposal), 8)
    ]
    return _table(("stage", "layers", "strategy"), rows, "Strategy of the layers of each stage")


def _place(plan: Plan, chunk: int) -> str:
    """Where a chunk is: its stage, and which chunk it is where stages have several."""
    return f"{plan.chunks[chunk]}, chunk {chunk}" if plan.vpp > 1 else str(chunk)


def _shares(plan: Plan) -> str:
    shares = sorted(time_shares(plan.proposal).items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name.replace('_', ' ')} {share:.1%}" for name, share in shares)
    return f"<p>Of all device time: {escape(shown)}.</p>"


def _stage_table(plan: Plan) -> str:
    head = ("stage", "ranks", "layers", "per micro-batch", "memory per device", "in flight")
    rows = charts.stage_rows(plan.stages, [_place(plan, j) for j in range(len(plan.stages))])
    table = _table(head, rows, "Stages in figures")
    return f"<details><summary>The stages in figures</summary>{table}</details>"


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(s)}</li>" for s in sentences) + "</ul>" if sentences else ""


def _proof(plan: Plan) -> str:
    axes = axes_searched(plan.proposal)
    return proof_line(plan.proof, plan.bound_s, plan.predicted.iteration_time_s, axes).capitalize() + "."


def _candidates(plan: Plan) -> str:
    rows = [
        (
            r.schedule,
            str(r.pp),
            str(r.vpp),
            str(r.micro_batches),
            r.outcome,
            "" if r.bound_s is None else f"{r.bound_s:.6g} s",
            "" if r.objective_s is None else f"{r.objective_s:.6g} s",
            f"{r.seconds:.3f} s",
            r.note,
        )
        for r in plan.proof
    ]
    head = ("schedule", "pp", "vpp", "micro-batches", "outcome", "bound", "objective", "took", "why")
    table = _table(head, rows, "Every candidate")
    chart = charts.candidates(plan.proof, plan.predicted.iteration_time_s)
    return f"{chart}<details><summary>Every candidate in figures</summary>{table}</details>"


def _checks(plan: Plan, doubts: Sequence[str]) -> str:
    rows = [("passed" if c.passed else "FAILED", c.name, c.evidence) for c in plan.verdict.checks]
    passed = "the file says that all passed, and does not hold" if doubts else "all passed"
    if not plan.verdict.passed:
        passed = "not all passed"
    head = f"<p>{len(rows)} checks by code that is independent of every solver; {passed}.</p>"
    return head + _table(("", "check", "evidence"), rows, "Checks of the verifier")


def _reproduce(plan: Plan) -> str:
    pins = "".join(f" --pin {shell(pin)}" for pin in plan.pins)
    options = (*unusual(plan.training).items(), *plan.model.chosen)
    kept = "".join(f" --{name} {shell(value)}" for name, value in options)
    model = shell(plan.model.source.removeprefix("zoo:") or "model.json")
    sequence, batch = f"--seq {plan.sequence} " if plan.model.counts_positions else "", plan.global_batch
    if documents := plan.training.documents:
        sequence, batch = f"--seq {documents} --tokens-per-device {plan.sequence} ", batch * plan.sequence // documents
    command = (
        f"uniap plan {model} --cluster {shell(plan.cluster.name)} --batch {batch} {sequence}"
        f"--precision {shell(plan.precision)}{kept} --schedule {shell(words_of(plan.schedules))}{pins} -o plan.json"
    )
    rows = [
        ("cost model", plan.cost_model),
        ("solver", plan.solver),
        ("verifier", plan.verdict.verifier),
        ("graph", plan.hashes.graph),
        ("cluster", plan.hashes.cluster),
        ("tables", plan.hashes.tables),
        ("problem", plan.hashes.problem),
        ("seal", plan.seal),
    ]
    return f"<pre>{escape(command)}</pre>" + _table(("what", "version or hash"), rows, "Versions and hashes")
