"""Fit the physical constants of a device generation to measured runs, robustly, with intervals.

Maximum a posteriori in the logarithms of the constants: a Huber loss on ``log(predicted / measured)`` (Huber 1964), so
that a failed run pulls no harder than a bad one, and a normal prior around the start, so that a constant that the runs
say nothing of stays where it was. Levenberg-Marquardt with numerical derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from uniap_core.api import BadValue, Calibration, CostTables, Fit, MeasuredRun, Price, UniapError, line, toml_key

from .constants import Constants, constants_of
from .pricing import Pricing

Array = np.ndarray

PRIOR = {
    "matmul_share": 0.3,
    "attention_share": 0.2,
    "memory_share": 0.15,
    "host_s": 0.4,
    "host_backward_s": 0.4,
    "message_s": 0.7,
    "overlap": 0.3,
    "link_share": 0.1,
    "inter_share": 0.3,
}
"""The constants that runs can tell, with the standard deviation of the prior of their logarithms."""

MOST = dict.fromkeys((name for name in PRIOR if name.endswith("_share")), 0.95) | {"overlap": 0.95}
"""Physics allows no more."""

HUBER = 0.1
"""Relative error from which a run counts linearly."""

SPREAD = 0.1
"""Relative error of a run against the model, for weighing runs against the prior."""

FEWEST = 2


@dataclass(frozen=True)
class Fitted:
    """What a fit found: the constants, 95 % intervals of the fitted ones, and mean absolute errors."""

    constants: Constants
    intervals: Mapping[str, tuple[float, float]]
    runs: int
    error_before: float
    error_after: float


def price_with(constants: Mapping[str, Constants]) -> Price:
    """A price function that uses other constants than the shipped ones (by generation)."""

    def price(graph: Any, cluster: Any, space: Any, candidate: Any, profile: Any = None) -> CostTables:
        return Pricing(graph, cluster, space, candidate, constants).tables()

    return price


def calibration(runs: Sequence[MeasuredRun], title: str) -> Calibration:
    """Fit each generation to the runs on it alone, from the shipped constants.

    Raises
    ------
    BadValue
        If no generation has enough runs that can be predicted.
    """
    fitted = calibrate(runs)
    fits = {
        generation: Fit(
            fit.runs,
            fit.error_before,
            fit.error_after,
            {name: getattr(fit.constants, name) for name in fit.intervals},
            fit.intervals,
        )
        for generation, fit in fitted.items()
    }
    return Calibration(fits, to_toml(fitted, title))


def calibrate(
    runs: Sequence[MeasuredRun], start: Mapping[str, Constants] | None = None, steps: int = 6
) -> dict[str, Fitted]:
    """Fit each generation to the runs on it alone.

    Raises
    ------
    BadValue
        If no generation has enough runs that can be predicted.
    """
    found = {}
    for generation in sorted({g for run in runs for g in run.generations}):
        mine = [run for run in runs if run.generations == {generation}]
        begin = (start or {}).get(generation) or constants_of(generation)
        mine = [run for run in mine if np.isfinite(_residuals([run], generation, begin)).all()]
        if len(mine) >= FEWEST:
            found[generation] = _fit(mine, generation, begin, steps)
    if not found:
        raise BadValue(
            f"no device generation has {FEWEST} measured runs that can be predicted",
            "give more runs, with a measured time and a full plan each",
        )
    return found


def _fit(runs: list[MeasuredRun], generation: str, begin: Constants, steps: int) -> Fitted:
    names = tuple(PRIOR)
    origin = np.log([getattr(begin, name) for name in names])
    sigma = np.array([PRIOR[name] for name in names])
    ceiling = np.log([MOST.get(name, math.inf) for name in names])
    weights = np.array([run.weight for run in runs])
    weights = weights / weights.mean()

    def constants(x: Array) -> Constants:
        return msgspec.structs.replace(begin, **{n: float(v) for n, v in zip(names, np.exp(x), strict=True)})

    def residuals(x: Array) -> Array:
        return _residuals(runs, generation, constants(x))

    def loss(x: Array, r: Array) -> float:
        size = np.abs(r)
        robust = np.where(size < HUBER, size**2 / 2, HUBER * (size - HUBER / 2))
        return float((weights * robust).sum() / SPREAD**2 + (((x - origin) / sigma) ** 2).sum() / 2)

    x = np.minimum(origin, ceiling)
    r = first = residuals(x)
    best, damping = loss(x, r), 1e-2
    normal = np.diag(1 / sigma**2)
    for _ in range(steps):
        slopes = np.stack([(residuals(x + d) - r) / 0.02 for d in 0.02 * np.eye(len(x))], axis=1)
        robust = weights * np.minimum(1.0, HUBER / np.maximum(np.abs(r), 1e-12)) / SPREAD**2
        normal = slopes.T @ (slopes * robust[:, None]) + np.diag(1 / sigma**2)
        gradient = slopes.T @ (robust * r) + (x - origin) / sigma**2
        before = best
        while damping < 1e4:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -gradient)
            trial = np.minimum(x + np.clip(step, -0.5, 0.5), ceiling)
            tried = residuals(trial)
            value = loss(trial, tried)
            if value < best:
                x, r, best, damping = trial, tried, value, damping / 3
                break
            damping *= 5
        if before - best < 1e-4 * before:
            break
    width = 1.96 * np.sqrt(np.diag(np.linalg.inv(normal)))
    bounds = {
        name: (float(math.exp(v - w)), float(min(MOST.get(name, math.inf), math.exp(v + w))))
        for name, v, w in zip(names, x, width, strict=True)
    }
    errors = (float(np.mean(np.abs(np.expm1(e)))) for e in (first, r))
    return Fitted(constants(x), bounds, len(runs), *errors)


def _residuals(runs: list[MeasuredRun], generation: str, constants: Constants) -> Array:
    price = price_with({generation: constants})
    found = []
    for run in runs:
        try:
            found.append(math.log(run.predict(price) / run.seconds))
        except UniapError:
            found.append(math.nan)
    return np.array(found)


def to_toml(fitted: Mapping[str, Fitted], source: str) -> str:
    """The fitted constants as a file that ``UNIAP_CONSTANTS`` may name, intervals as comments."""
    lines = [f"# {line(source)}"]
    for generation, fit in fitted.items():
        lines += ["", f"[{toml_key(generation)}]"]
        lines.append(
            f"# {fit.runs} runs; mean absolute error {100 * fit.error_before:.1f} % before, "
            f"{100 * fit.error_after:.1f} % after"
        )
        for name in Constants.__struct_fields__:
            note = ""
            if name in fit.intervals:
                low, high = fit.intervals[name]
                note = f"  # {low:.3g} to {high:.3g}"
            lines.append(f"{name} = {getattr(fit.constants, name):.4g}{note}")
    return "\n".join(lines) + "\n"
