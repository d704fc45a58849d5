"""Many jobs at once: which cluster and which batch? The Pareto of throughput, devices and price per token."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

import msgspec

from .. import interrupts
from ..cluster import Cluster
from ..costs import Training
from ..errors import BadValue, Infeasible, NotEnoughTime, Stopped, UsageError
from ..events import Emit, Progress, silent
from ..quoting import cell
from ..search import Search, moved, sweep

COLUMNS = (
    "cluster",
    "devices",
    "global_batch",
    "iteration_time_s",
    "tokens_per_s",
    "tokens_per_s_per_device",
    "price_per_million_tokens",
    "pp",
    "micro_batches",
    "pareto",
    "note",
    "samples_per_s",
)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One job: what it reaches, or why it does not run.

    ``price_per_million_tokens`` is in the currency of the cluster's price per device and hour; ``pareto`` is true
    if no other point is at least as fast with at most as many devices and at most the price, and better in one.
    """

    cluster: str
    devices: int
    global_batch: int
    iteration_time_s: float | None = None
    tokens_per_s: float | None = None
    tokens_per_s_per_device: float | None = None
    price_per_million_tokens: float | None = None
    pp: int | None = None
    micro_batches: int | None = None
    pareto: bool = False
    note: str = ""
    samples_per_s: float | None = None

    @property
    def speed(self) -> float | None:
        """What jobs of one model are compared by: tokens per second, or samples where it has no tokens."""
        return self.samples_per_s if self.tokens_per_s is None else self.tokens_per_s


def grid(
    search: Search,
    clusters: Sequence[Cluster],
    batches: Sequence[int],
    emit: Emit = silent,
    keep: Callable[[tuple[Point, ...]], None] = lambda points: None,
) -> tuple[Point, ...]:
    """Plan every combination of clusters and batches; infeasible ones say why.

    Ctrl-C ends it; the points are those that were done until then.

    Parameters
    ----------
    search
        The model, space and options; its cluster and batch are replaced.
    keep
        Called with all points so far after each.

    Raises
    ------
    Stopped
        If it was interrupted before any point was done.
    """
    jobs = [(cluster, batch) for cluster in clusters for batch in batches]
    points: list[Point] = []
    try:
        for done, (cluster, batch) in enumerate(jobs, 1):
            training = msgspec.structs.replace(search.training, global_batch=batch)
            points.append(_point(search, cluster, training))
            interrupts.worthwhile()
            keep(_marked(points))
            emit(Progress(float("inf"), done, len(jobs), f"{cluster.name}, batch {batch}"))
    except (KeyboardInterrupt, Stopped):
        if not points:
            raise
    return _marked(points)


def _marked(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points with those on the front marked."""
    return tuple(msgspec.structs.replace(p, pareto=_on_front(p, points)) for p in points)


def _point(search: Search, cluster: Cluster, training: Training) -> Point:
    batch = training.global_batch
    try:
        found = sweep(moved(search, cluster, training))
        if found.interrupted:  # its best so far would pass for the best of this job
            raise Stopped("interrupted", "")
        plan = found.plan
    except Stopped:
        raise
    except (Infeasible, BadValue, NotEnoughTime, UsageError) as error:
        return Point(cluster=cluster.name, devices=cluster.devices, global_batch=batch, note=error.cause)
    speed, price = plan.predicted.tokens_per_s, cluster.price_per_device_hour
    return Point(
        cluster=cluster.name,
        devices=cluster.devices,
        global_batch=batch,
        iteration_time_s=plan.predicted.iteration_time_s,
        tokens_per_s=speed,
        tokens_per_s_per_device=None if speed is None else speed / cluster.devices,
        price_per_million_tokens=(
            None if price is None or speed is None else price * cluster.devices / 3600 / speed * 1e6
        ),
        pp=plan.pp,
        micro_batches=plan.micro_batches,
        samples_per_s=plan.predicted.samples_per_s,
    )


def _on_front(point: Point, points: Sequence[Point]) -> bool:
    if point.speed is None:
        return False
    mine = _figures(point)
    rivals = [_figures(p) for p in points if p.speed is not None]
    return not any(all(a >= b for a, b in zip(r, mine, strict=True)) and r != mine for r in rivals)


def _figures(point: Point) -> tuple[float, float, float]:
    """Larger is better: speed, fewer devices, lower price (unknown prices count as equal)."""
    return point.speed or 0.0, -point.devices, -(point.price_per_million_tokens or 0.0)


def to_csv(points: Sequence[Point]) -> str:
    """The points as CSV with a header; blanks where there is no figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for point in points:
        row = msgspec.to_builtins(point)
        writer.writerow(["" if row[name] is None else cell(row[name]) for name in COLUMNS])
    return text.getvalue()
