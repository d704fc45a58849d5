"""Intra-layer strategies and the space they are drawn from.

A strategy says how the devices of one stage share one layer. Ranks of a stage are laid out with tensor parallel
innermost (neighbouring ranks), then context parallel, then data parallel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from .errors import BadValue
from .limits import Degree

Sharding = Literal["none", "zero1", "zero2", "zero3"]
Recompute = Literal["none", "selective", "full"]

SHARDINGS: tuple[Sharding, ...] = ("none", "zero1", "zero2", "zero3")
RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "full")

_NAME = re.compile(
    r"tp(?P<tp>[1-9]\d*)-dp(?P<dp>[1-9]\d*)(?:-cp(?P<cp>[1-9]\d*))?(?:-ep(?P<ep>[1-9]\d*))?"
    r"(?:-(?P<sharding>zero[123]))?(?:-(?P<recompute>selective|full))?(?P<sp>-sp)?"
)


class Strategy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """How one layer is split over the devices of its stage.

    ``tp * dp * cp`` is the number of devices of the stage; ``ep`` divides ``dp * cp`` and spreads experts over
    data-parallel ranks. ``sequence_parallel`` splits what tensor parallelism leaves whole (Korthikanti et al. 2022).
    """

    tp: Degree = 1
    dp: Degree = 1
    cp: Degree = 1
    ep: Degree = 1
    sharding: Sharding = "none"
    recompute: Recompute = "none"
    sequence_parallel: bool = False

    def __post_init__(self) -> None:
        for name in ("tp", "dp", "cp", "ep"):
            if getattr(self, name) < 1:
                raise BadValue(f"{name} is {getattr(self, name)}", "degrees are 1 or more")
        if self.dp * self.cp % self.ep:
            raise BadValue(f"ep {self.ep} does not divide dp * cp = {self.dp * self.cp}", "choose a divisor")

    @property
    def devices(self) -> int:
        """Devices that it uses: those of one stage."""
        return self.tp * self.dp * self.cp

    @property
    def name(self) -> str:
        """The canonical name, as in ``tp2-dp4-zero3-full-sp``; :func:`parse` inverts it."""
        parts = [f"tp{self.tp}", f"dp{self.dp}"]
        parts += [f"cp{self.cp}"] * (self.cp > 1) + [f"ep{self.ep}"] * (self.ep > 1)
        parts += [self.sharding] * (self.sharding != "none") + [self.recompute] * (self.recompute != "none")
        return "-".join(parts + ["sp"] * self.sequence_parallel)

    @property
    def words(self) -> str:
        """The strategy as people say it: ``tp2 x dp4 zero3, recompute full``."""
        degrees = [f"tp{self.tp} x dp{self.dp}"]
        degrees += [f"x cp{self.cp}"] * (self.cp > 1) + [f"x ep{self.ep}"] * (self.ep > 1)
        degrees += [self.sharding] * (self.sharding != "none")
        text = " ".join(degrees)
        return text if self.recompute == "none" else f"{text}, recompute {self.recompute}"

    @property
    def layout(self) -> tuple[int, int, int, bool]:
        """What decides how its activations lie on the devices: (tp, dp, cp, sequence_parallel)."""
        return self.tp, self.dp, self.cp, self.sequence_parallel


def parse(name: str) -> Strategy:
    """The strategy of a canonical name.

    Raises
    ------
    BadValue
        If the name is not one.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise BadValue(f"{name!r} is not a strategy", "write it like tp2-dp4-zero3-full-sp")
    part = match.groupdict()
    return msgspec.convert(
        {
            **{degree: int(part[degree] or 1) for degree in ("tp", "dp", "cp", "ep")},
            "sharding": part["sharding"] or "none",
            "recompute": part["recompute"] or "none",
            "sequence_parallel": bool(part["sp"]),
        },
        Strategy,
    )


class StrategySpace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which strategies a plan may use. Executors and pins narrow it; ``None`` leaves a degree free.

    Attributes
    ----------
    tp, dp, cp, ep
        Allowed degrees. Free tensor parallel degrees divide the stage and the node, so that no group spans two nodes.
    shardings, recomputes
        Allowed values.
    sequence_parallel
        ``None`` turns it on wherever tp > 1; True and False force it.
    max_strategies
        At most so many different strategies in one plan; 1 is a uniform plan (Megatron), ``None`` is no limit.
    """

    tp: tuple[int, ...] | None = None
    dp: tuple[int, ...] | None = None
    cp: tuple[int, ...] = (1,)
    ep: tuple[int, ...] = (1,)
    shardings: tuple[Sharding, ...] = SHARDINGS
    recomputes: tuple[Recompute, ...] = RECOMPUTES
    sequence_parallel: bool | None = None
    max_strategies: int | None = None

    @property
    def uniform(self) -> bool:
        """True if all layers must use one strategy."""
        return self.max_strategies == 1

    def strategies(self, devices: int, node: int) -> tuple[Strategy, ...]:
        """All strategies of the space on a stage.

        Parameters
        ----------
        devices
            Devices of the stage.
        node
            Devices of a node (of unequal nodes, what divides all): a free tensor parallel group stays inside it.
        """
        return tuple(dict.fromkeys(self._generate(devices, node)))

    def _generate(self, devices: int, node: int) -> Iterator[Strategy]:
        for tp in divisors(devices):
            if node % tp if self.tp is None else tp not in self.tp:
                continue
            for cp in (cp for cp in self.cp if devices // tp % cp == 0):
                dp = devices // tp // cp
                if self.dp is not None and dp not in self.dp:
                    continue
                shardings = self.shardings if dp * cp > 1 else ("none",)
                for ep in (ep for ep in self.ep if dp * cp % ep == 0):
                    for sharding in shardings:
                        for recompute in self.recomputes:
                            sp = tp > 1 and self.sequence_parallel is not False
                            yield Strategy(tp, dp, cp, ep, sharding, recompute, sp)


def divisors(number: int) -> tuple[int, ...]:
    """Positive divisors in ascending order (a prime of 10^12 takes half a second)."""
    found = [1]
    rest, factor = number, 2
    while factor * factor <= rest:
        powers = [1]
        while rest % factor == 0:
            rest //= factor
            powers.append(powers[-1] * factor)
        found = [d * p for d in found for p in powers]
        factor += 1 if factor == 2 else 2
    found += [d * rest for d in found] if rest > 1 else []
    return tuple(sorted(found))
