"""Numbers that were seen at several sequences, as a function of the sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import msgspec

from uniap_core.api import Growth

CHUNKS = tuple(2**n for n in range(1, 10))
"""Chunks that models cut their sequence into."""

CLOSE = 1e-6
"""Relative difference that is none."""

Point = tuple[int, float]
"""A sequence, and what was seen there."""


def fit(points: Sequence[Point]) -> Growth | None:
    """The simplest growth (of width) that gives every point, or ``None``.

    A constant, a line or a parabola; one of them up to a window; or a line or a parabola in whole chunks. Where there
    are enough points, one more than it takes must lie on it.
    """
    return next((g for g in _candidates(points) if all(_near(g.at(s), v) for s, v in points)), None)


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= CLOSE * max(1.0, abs(one), abs(other))


def _candidates(points: Sequence[Point]) -> Iterator[Growth]:
    yield from _polynomials(points, 1)
    most = max(v for _, v in points)
    below = [(s, v) for s, v in points if not _near(v, most)]
    if below and len(points) - len(below) > 1:
        s, v = max(below)
        yield Growth(field="width", linear=v / s, most=most)
        yield from (msgspec.structs.replace(g, most=most) for g in _polynomials(below, 1))
    for chunk in CHUNKS:
        yield from _polynomials(points, chunk)


def _polynomials(points: Sequence[Point], chunk: int) -> Iterator[Growth]:
    """Those through the points at the longest sequences."""
    seen = {-(-s // chunk) * chunk: v for s, v in sorted(points)}
    rounded = sorted(seen.items(), reverse=True)
    for degree in range(3):
        if len(rounded) >= min(degree + 2, len(points)) and len(rounded) > degree:
            fixed, linear, square = _through(rounded[: degree + 1])
            yield Growth(field="width", fixed=fixed, linear=linear, square=square, chunk=chunk)


def _through(points: Sequence[Point]) -> tuple[float, float, float]:
    """Coefficients of the polynomial through one, two or three points (Newton's divided differences)."""
    xs = [Fraction(x) for x, _ in points]
    ys = [Fraction(y) for _, y in points]
    if len(points) == 1:
        return float(ys[0]), 0.0, 0.0
    slope = (ys[1] - ys[0]) / (xs[1] - xs[0])
    bend = Fraction(0)
    if len(points) == 3:
        bend = ((ys[2] - ys[1]) / (xs[2] - xs[1]) - slope) / (xs[2] - xs[0])
    fixed = ys[0] - slope * xs[0] + bend * xs[0] * xs[1]
    return float(fixed), float(slope - bend * (xs[0] + xs[1])), float(bend)


def whole(growth: Growth) -> tuple[int, int] | None:
    """Rows that stay and rows per position, if that is all there is to it."""
    plain = growth.chunk == 1 and not growth.most and not growth.square
    if not plain or growth.fixed % 1 or growth.linear % 1 or growth.linear < 0:
        return None
    return int(growth.fixed), int(growth.linear)


def added(curves: Sequence[Growth]) -> list[Growth]:
    """Curves that together give the sum of all, those of one chunk as one."""
    sums: dict[int, Growth] = {}
    windows: list[Growth] = []
    for curve in curves:
        if curve.most:
            windows.append(curve)
            continue
        same = sums.get(curve.chunk)
        sums[curve.chunk] = curve if same is None else _sum(same, curve)
    return [*sums.values(), *windows]


def _sum(one: Growth, other: Growth) -> Growth:
    return msgspec.structs.replace(
        one, fixed=one.fixed + other.fixed, linear=one.linear + other.linear, square=one.square + other.square
    )
