"""The physical constants of the model: about ten numbers per device generation, shipped as data.

``constants.toml`` holds the defaults with their provenance; ``uniap calibrate`` fits the same fields from a user's
own runs.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import msgspec


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
    iteration_host_s
        Host time once per iteration (data loading, gradient scaler, logging).
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

    matmul_share: float = 0.85
    attention_share: float = 0.5
    attention_backward: float = 0.8
    memory_share: float = 0.8
    optimizer_share: float = 0.7
    host_s: float = 35e-6
    host_backward_s: float = 30e-6
    iteration_host_s: float = 1e-3
    link_share: float = 0.78
    inter_share: float = 0.85
    collective_s: float = 10e-6
    message_s: float = 200e-6
    overlap: float = 0.9
    contention: float = 1.1


@cache
def shipped() -> dict[str, Constants]:
    """The shipped constants by device generation; ``default`` serves the rest."""
    import tomllib

    table = tomllib.loads(resources.files(__package__).joinpath("constants.toml").read_text())
    base = table.pop("default")
    rows = {name: {**base, **row} for name, row in table.items()} | {"default": base}
    return {
        name: msgspec.convert({k: v for k, v in row.items() if k != "source"}, Constants) for name, row in rows.items()
    }


def constants_of(generation: str) -> Constants:
    """The constants of a device generation (volta, ampere, hopper, ...)."""
    return shipped().get(generation, shipped()["default"])
