"""Bound and incumbent against time, one solver after the other in one picture.

:func:`curves` says what to draw; :func:`draw` draws it by matplotlib (PNG, SVG), :func:`page` as an HTML page with
inline SVG that needs nothing but a browser.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from uniap_core.artifact import write_text
from uniap_core.errors import PluginError, UsageError
from uniap_core.quoting import html as escape

from .run import Comparison, Entry, ProblemComparison
from .table import HEADINGS, cells, ranked, title

Point = tuple[float, float]
"""Seconds since the solver began, seconds per iteration."""

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Told apart by color-blind people too (Okabe and Ito)."""

EARLIEST_S = 1e-3
"""Left end of the logarithmic time axis."""


@dataclass(frozen=True)
class Curve:
    """What one solver knew over time: a step function, each value holding until the next point."""

    solver: str
    kind: Literal["incumbent", "bound"]
    points: tuple[Point, ...]


def curves(problem: ProblemComparison) -> list[Curve]:
    """The curves of all solvers that found or proved anything; incumbents fall, bounds rise."""
    drawn: list[Curve] = []
    for entry in problem.entries:
        kinds: tuple[Literal["incumbent", "bound"], ...] = ("incumbent", "bound")
        drawn += [Curve(entry.solver, kind, points) for kind in kinds if (points := _points(entry, kind))]
    return drawn


def _points(entry: Entry, kind: Literal["incumbent", "bound"]) -> tuple[Point, ...]:
    """Points of the trajectory that improve, and the final answer at the end."""
    incumbent = kind == "incumbent"
    reported = [(t.t_s, t.objective_s if incumbent else t.bound_s) for t in entry.trajectory]
    end_s = max([(entry.build_s or 0.0) + (entry.solve_s or 0.0), *(t_s for t_s, _ in reported)])
    reported.append((end_s, entry.objective_s if incumbent else entry.bound_s))
    points: list[Point] = []
    for t_s, value in reported:
        if value is None or not math.isfinite(value) or value <= 0:
            continue
        if not points or (value < points[-1][1] if incumbent else value > points[-1][1]):
            points.append((max(t_s, EARLIEST_S), value))
    if points and end_s > points[-1][0]:
        points.append((end_s, points[-1][1]))
    return tuple(points)


def draw(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Write a picture; the ending of the path chooses: ``.png``, ``.svg`` (matplotlib) or ``.html`` (nothing).

    Raises
    ------
    UsageError
        For another ending.
    PluginError
        If matplotlib is needed and not installed.
    """
    ending = Path(path).suffix.lower()
    if ending == ".html":
        write_text(path, page(comparison))
    elif ending in (".png", ".svg"):
        write_text(path, _matplotlib(comparison, ending[1:]))
    else:
        raise UsageError(f"cannot draw {path}", "end the file's name in .png, .svg or .html")


def _matplotlib(comparison: Comparison, kind: str) -> bytes:
    import io

    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PluginError("drawing PNG and SVG needs matplotlib", "pip install 'uniap[plot]', or draw HTML") from None
    count = max(1, len(comparison.problems))
    figure = Figure(figsize=(8, 4.5 * count), layout="constrained")
    for problem, axes in zip(comparison.problems, figure.subplots(count, squeeze=False)[:, 0], strict=False):
        color = _colors(problem)
        for curve in curves(problem):
            t_s, value_s = zip(*curve.points, strict=True)
            bound = curve.kind == "bound"
            label = None if bound else curve.solver
            axes.step(t_s, value_s, where="post", color=color[curve.solver], ls=":" if bound else "-", label=label)
            axes.plot(t_s[-1], value_s[-1], "_" if bound else "o", color=color[curve.solver])
        axes.set(xscale="log", xlabel="time (s)", ylabel="time per iteration (s)", title=title(problem))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(title="solid: incumbent, dotted: bound")
    data = io.BytesIO()
    figure.savefig(data, format=kind)
    return data.getvalue()


def page(comparison: Comparison) -> str:
    """The comparison as one HTML page: tables and plots, without scripts or links."""
    body = "".join(_section(problem) for problem in comparison.problems)
    limit = "no time limit" if comparison.time_limit_s is None else f"{comparison.time_limit_s:g} s each"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>uniap compare</title><style>"
        "body{font:15px system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1.5em;color:#222}"
        "table{border-collapse:collapse}td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child{text-align:left}.wrong{color:#b00;font-weight:bold}"
        "svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif}"
        f"</style><h1>Solvers side by side</h1><p>{limit}, {comparison.threads} thread(s), "
        f"gap {comparison.gap:g}. Solid: incumbent; dotted: bound.</p>{body}</html>\n"
    )


def _section(problem: ProblemComparison) -> str:
    head = "".join(f"<th>{escape(heading)}" for heading in HEADINGS)
    wrong = {c.claims for c in problem.contradictions}
    rows = "".join(
        f"<tr{' class=wrong' if entry.error or entry.solver in wrong else ''}>"
        + "".join(f"<td>{escape(cell)}" for cell in cells(problem, entry))
        for entry in ranked(problem)
    )
    return f"<h2>{escape(title(problem))}</h2><table><tr>{head}{rows}</table>{_svg(problem)}"


def _svg(problem: ProblemComparison) -> str:
    drawn = curves(problem)
    if not drawn:
        return "<p>No solver found or proved anything.</p>"
    width, height, left, right, top, bottom = 900, 380, 80, 130, 15, 40
    t_s, value_s = zip(*(point for curve in drawn for point in curve.points), strict=True)
    low: float = min(value_s)
    high: float = max(value_s)
    margin = 0.05 * (high - low) or 0.05 * high
    low, high = low - margin, high + margin
    first: int = math.floor(math.log10(min(t_s)))
    last: int = max(math.ceil(math.log10(max(t_s))), -2)

    def x(t: float) -> float:
        return left + (width - left - right) * (math.log10(t) - first) / (last - first)

    def y(value: float) -> float:
        return top + (high - value) / (high - low) * (height - top - bottom)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img"><title>bound and incumbent against time</title>']
    for exponent in range(first, last + 1):
        tick_s = float(f"1e{exponent}")
        parts.append(f'<path d="M{x(tick_s):.1f} {top}V{height - bottom}" stroke="#eee"/>')
        parts.append(f'<text x="{x(tick_s):.1f}" y="{height - 22}" text-anchor="middle">{tick_s:g} s</text>')
    for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + fraction * (high - low)
        parts.append(f'<path d="M{left} {y(value):.1f}H{width - right}" stroke="#eee"/>')
        parts.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.5g}</text>')
    color = _colors(problem)
    for curve in drawn:
        dashes = ' stroke-dasharray="3 4"' if curve.kind == "bound" else ""
        steps = _steps([(x(t), y(value)) for t, value in curve.points])
        label = f"{curve.solver}: {curve.kind} {curve.points[-1][1]:.7g} s"
        parts.append(
            f'<path d="{steps}" fill="none" stroke="{color[curve.solver]}" stroke-width="2"{dashes}>'
            f"<title>{escape(label)}</title></path>"
        )
    for number, solver in enumerate(dict.fromkeys(curve.solver for curve in drawn)):
        where = f'x="{width - right + 12}" y="{top + 14 + 18 * number}"'
        parts.append(f'<text {where} fill="{color[solver]}">{escape(solver)}</text>')
    return "".join([*parts, "</svg>"])


def _steps(points: Iterable[Point]) -> str:
    (first_x, first_y), *rest = points
    return f"M{first_x:.1f} {first_y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest)


def _colors(problem: ProblemComparison) -> dict[str, str]:
    return {e.solver: COLORS[n % len(COLORS)] for n, e in enumerate(problem.entries)}
