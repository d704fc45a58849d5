"""A sweep as a picture: throughput against devices, the Pareto front joined."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

from .. import artifact
from ..advise.grid import Point
from ..errors import PluginError


def draw(points: Sequence[Point], path: str | os.PathLike[str], title: str) -> None:
    """Draw jobs into a .png, .svg or .pdf file.

    Raises
    ------
    PluginError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PluginError("pictures need matplotlib", "pip install 'uniap[plot]'") from None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    unit = "tokens/s" if any(p.tokens_per_s is not None for p in points) else "samples/s"
    kinds = list(dict.fromkeys(p.cluster.rsplit("x", 1)[-1] for p in points))
    for kind in kinds:
        mine = [p for p in points if p.cluster.rsplit("x", 1)[-1] == kind and p.speed is not None]
        axes.scatter([p.devices for p in mine], [p.speed or 0.0 for p in mine], label=kind)
    front = sorted((p for p in points if p.pareto), key=lambda p: (p.devices, p.speed or 0.0))
    axes.plot([p.devices for p in front], [p.speed or 0.0 for p in front], color="0.6", zorder=0, label="front")
    for p in front:
        axes.annotate(f"batch {p.global_batch}", (p.devices, p.speed or 0.0), fontsize=7, xytext=(4, 4),
                      textcoords="offset points")  # fmt: skip
    axes.set(xlabel="devices", ylabel=unit, title=f"{title}: what each cluster reaches", xscale="log", yscale="log")
    axes.set_xticks(devices := sorted({p.devices for p in points}), labels=[str(d) for d in devices])
    axes.minorticks_off()
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format=os.fspath(path).rsplit(".", 1)[-1].lower(), dpi=150)
    artifact.write_text(path, buffer.getvalue())
