"""How large and how small numbers may be, once for files, options and calls.

The types are for fields of structs: msgspec holds decoded files against them. :func:`check` holds a value that comes
another way (an option, an argument) against the same type. The bounds are far beyond any machine or model and small
enough that products of a few of them are still numbers.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .errors import BadValue

Size = Annotated[int, Meta(ge=0, le=10**13)]
"""Elements, rows, widths, bytes per element: none or more."""

Shift = Annotated[int, Meta(ge=-(10**13), le=10**13)]
"""A number of rows to add or take away."""

Degree = Annotated[int, Meta(ge=1, le=10**7)]
"""Devices, ranks, degrees of parallelism, stages."""

Samples = Annotated[int, Meta(ge=1, le=10**12)]
"""A batch, a number of micro-batches."""

Positions = Annotated[int, Meta(ge=1, le=10**10)]
"""A sequence length."""

Steps = Annotated[int, Meta(ge=0, le=10**12)]
"""Iterations of training."""

Amount = Annotated[float, Meta(ge=0, le=1e30)]
"""Bytes, FLOP/s, bytes per second, a price: none or more, and finite."""

Positive = Annotated[float, Meta(gt=0, le=1e30)]
"""The same, and some."""

Seconds = Annotated[float, Meta(ge=0, le=1e12)]
"""A time, 30 000 years at most."""

Gap = Annotated[float, Meta(ge=0, lt=1)]
"""A relative gap; a gap of 1 would call any answer optimal."""

Threads = Annotated[int, Meta(ge=1, le=1024)]
"""Threads of one solver."""

Seed = Annotated[int, Meta(ge=0, le=2 * 10**9)]
"""What every solver's generator takes."""

Rate = Annotated[float, Meta(ge=0, le=1e6)]
"""A learning rate."""

Cases = Annotated[int, Meta(ge=1, le=10**6)]
"""Random cases of one test."""

OPTIONS: dict[str, Any] = {
    "batch": Samples,
    "seq": Positions,
    "tokens_per_device": Positions,
    "pp": Degree,
    "micro_batches": Samples,
    "max_strategies": Degree,
    "top": Degree,
    "workers": Degree,
    "gap": Gap,
    "threads": Threads,
    "seed": Seed,
    "steps": Steps,
    "learning_rate": Rate,
    "checkpoint_every": Steps,
    "properties": Cases,
    "tolerance": Amount,
    "ranks": Size,
}
"""The type of every option that is a number, by the name of its parameter; a time limit is :func:`time_limit`."""

FOREVER_S = 1e9
"""A time limit of more than 30 years is none."""


def check(value: Any, kind: Any, name: str) -> Any:
    """Hold a value against one of the types.

    Parameters
    ----------
    name
        What to call it in the message: the option, or the field.

    Returns
    -------
    The value.

    Raises
    ------
    BadValue
        If it is outside the bounds, or NaN.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        words = str(error).replace("Expected `int`", "a whole number").replace("Expected `float`", "a number")
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)[:40]
        raise BadValue(f"{name} is {shown}", f"give {words}") from None


def time_limit(value: float | None, name: str = "--time-limit") -> float | None:
    """A time limit in seconds; ``None`` for what is as good as none (infinity).

    Raises
    ------
    BadValue
        If it is negative or NaN.
    """
    if value is None or value >= FOREVER_S:
        return None
    return float(check(value, Seconds, name))


def check_options(parameters: dict[str, Any]) -> dict[str, Any]:
    """Hold all parameters of a command or call that are numbers against their types; returns them.

    Lists are held against theirs one by one; ``None`` is what was not given.

    Raises
    ------
    BadValue
        For the first that is out of bounds.
    """
    for name, kind in OPTIONS.items():
        given = parameters.get(name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None:
                check(value, kind, f"--{name.replace('_', '-')}")
    if "time_limit" in parameters:
        return {**parameters, "time_limit": time_limit(parameters["time_limit"])}
    return parameters
