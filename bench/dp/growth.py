"""Time of the exact solver against layers, stages, strategies and tightness of memory, as a table and a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.table import Table

from .cases import CONSOLE, measure
from .problems import Shape, chain

START = Shape(128, 16, 16, 64, 0.8, 0.2)
SWEEPS: dict[str, tuple[str, list[float]]] = {
    "layers": ("layers", [32, 48, 64, 96, 128, 192, 256]),
    "stages": ("stages", [2, 4, 8, 16, 32, 64]),
    "strategies": ("strategies", [4, 8, 16, 32, 64]),
    "tightness": ("tightness of memory", [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99]),
}
FAMILIES = {
    "equal layers": {"noise": 0.0},
    "perturbed 20 %": {},
    "perturbed, own cost of every pair": {"random_edges": True},
}
SEEDS = (0, 1, 2)


def curve(field: str, values: list[float], changes: dict[str, object]) -> list[float]:
    """Median seconds over seeds for each value of one field, the others as in :data:`START`."""
    seconds = []
    for value in values:
        own = value if field == "tightness" else int(value)
        shapes = [replace(START, **changes, **{field: own, "seed": seed}) for seed in SEEDS]
        found = sorted(measure(chain(shape))[0] for shape in shapes)
        seconds.append(found[len(found) // 2])
    return seconds


def run(picture: Path | None) -> list[dict[str, object]]:
    """Measure every curve; draw them if a file is named."""
    measure(chain(Shape(8, 2, 4)))
    curves = {
        (field, family): curve(field, values, changes)
        for field, (_, values) in SWEEPS.items()
        for family, changes in FAMILIES.items()
    }
    for field, (title, values) in SWEEPS.items():
        table = Table(title=f"seconds against {title}; otherwise 128 layers, 16 stages, 16 strategies, tightness 0.8")
        for column in ("", *map(str, values)):
            table.add_column(column, justify="right")
        for family in FAMILIES:
            table.add_row(family, *(f"{s:.3f}" for s in curves[field, family]))
        CONSOLE.print(table)
    if picture:
        draw(curves, picture)
    return [
        {"field": field, "family": family, "values": SWEEPS[field][1], "seconds": seconds}
        for (field, family), seconds in curves.items()
    ]


def draw(curves: dict[tuple[str, str], list[float]], picture: Path) -> None:
    """Four panels, one line per family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout="constrained")
    for axes, (field, (title, values)) in zip(figure.subplots(2, 2).flat, SWEEPS.items(), strict=True):
        for family in FAMILIES:
            axes.plot(values, curves[field, family], marker="o", label=family)
        axes.set(xlabel=title, ylabel="seconds to proof", yscale="log")
        if field != "tightness":
            axes.set_xscale("log", base=2)
            axes.set_xticks(values, [f"{v:g}" for v in values])
        axes.grid(alpha=0.3)
    figure.axes[0].legend(loc="lower right", fontsize="small")
    figure.suptitle("otherwise 128 layers, 16 stages, 16 strategies, 64 micro-batches, tightness 0.8")
    figure.savefig(picture)
