"""The physical constants of the model: about ten numbers per device generation, shipped as data.

``constants.toml`` holds the defaults with their provenance; ``uniap calibrate`` fits the same fields from a user's
own runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

from uniap_core.api import BadFile
from uniap_core.api import digest as artifact_digest


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Efficiencies and overheads.

    Attributes
    ----------
    matmul_share
        Share of a device's matmul ceiling that a training step's large matrix products keep (clock, power, layout).
    attention_share
        Share of the peak that fused attention reaches in forward; backward reaches ``attention_backward`` of it.
    memory_share
        Share of the memory bandwidth that operators bound by memory reach.
    optimizer_share
        The same for the optimizer's multi-tensor update.
    host_s, host_backward_s
        Host time to issue one kernel of forward (Python) and of backward (the autograd engine): the launch floor.
    link_share, inter_share
        Share of the line rate that large collectives reach inside a node and between nodes.
    collective_s
        Fixed time of any collective (launch, rendezvous).
    message_s
        Fixed time of a message between stages: both sides wait for each other before it starts.
    overlap
        Share of communication that may hide behind compute can hide.
    contention
        Slow-down of whichever of compute and communication is shorter while both run (Galvatron's overlap
        coefficient, arXiv 2211.13878).
    """

    matmul_share: float = 0.8
    attention_share: float = 0.45
    attention_backward: float = 0.8
    memory_share: float = 0.75
    optimizer_share: float = 0.7
    host_s: float = 40e-6
    host_backward_s: float = 30e-6
    link_share: float = 0.78
    inter_share: float = 0.85
    collective_s: float = 20e-6
    message_s: float = 500e-6
    overlap: float = 0.75
    contention: float = 1.1


VARIABLE = "UNIAP_CONSTANTS"
"""Environment variable that may name a file of constants (as ``uniap calibrate`` writes it)."""


@cache
def shipped() -> dict[str, Constants]:
    """The shipped constants by device generation; ``default`` serves the rest."""
    return _tables(resources.files(__package__).joinpath("constants.toml").read_text(), "constants.toml", {})


@cache
def _named(path: str) -> dict[str, Constants]:
    return _tables(_text(path), path, shipped())


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}, named by {VARIABLE}, cannot be read: {error}", "unset or correct it") from None


def _tables(text: str, origin: str, base: dict[str, Constants]) -> dict[str, Constants]:
    import tomllib

    try:
        tables = tomllib.loads(text)
        default = {**_fields(base.get("default", Constants())), **tables.pop("default", {})}
        found = {**base, "default": msgspec.convert(default, Constants)}
        for name, row in tables.items():
            found[name] = msgspec.convert({**(_fields(base[name]) if name in base else default), **row}, Constants)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, TypeError) as error:
        raise BadFile(f"{origin}: {error}", "correct it, or write it again with uniap calibrate") from None
    return found


def _fields(constants: Constants) -> dict[str, float]:
    return msgspec.structs.asdict(constants)


def constants_of(generation: str) -> Constants:
    """The constants of a device generation (volta, ampere, hopper, ...).

    Raises
    ------
    BadFile
        If :data:`VARIABLE` names a file that is missing or malformed.
    """
    known = _in_force()
    return known.get(generation, known["default"])


def digest(override: Mapping[str, Constants] | None = None) -> str:
    """Eight digits that change with any constant in force; ``override`` replaces generations."""
    if override:
        return _digits({**_in_force(), **override})
    return _known_digits(os.environ.get(VARIABLE))


@cache
def _known_digits(path: str | None) -> str:
    return _digits(_named(path) if path else shipped())


def _digits(known: Mapping[str, Constants]) -> str:
    return artifact_digest(known).removeprefix("sha256:")[:8]


def _in_force() -> dict[str, Constants]:
    path = os.environ.get(VARIABLE)
    return _named(path) if path else shipped()
