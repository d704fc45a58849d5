"""The shape of a pipeline: a schedule, how many ranks, and which chunk lies where.

The only place that knows how devices are shared among ranks, and, through its schedule, what is in flight where and
what the objective weighs. :class:`~uniap_core.problem.Problem` stores the numbers it computes; whoever reads those
knows no schedule by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from . import schedules
from .errors import BadValue, UnknownName
from .searched import AUTO
from .tables import Moment, Weights

MOST_CHUNKS = 65_536
"""More than any model has layers: larger numbers are typing errors, and would fill the memory."""


def searched(word: str) -> tuple[str, ...]:
    """The schedules that ``auto``, ``any`` or a name stands for.

    Raises
    ------
    UnknownName
        If it is none of them.
    """
    if word == "any":
        return schedules.names()
    if word == "auto":
        return AUTO
    if word not in schedules.names():
        raise UnknownName(f"there is no schedule named {word!r}", f"known: {', '.join(schedules.names())}, auto, any")
    return (word,)


def words_of(names: Sequence[str]) -> str:
    """What stands for some schedules, as :func:`searched` takes it; of a selection that has no word, the first."""
    words = {AUTO: "auto", schedules.names(): "any"}
    return words.get(tuple(names), names[0])


def placements(schedule: str, ranks: int, layers: int) -> tuple[int, ...]:
    """Every number of chunks per rank that a schedule can place and so many layers can fill."""
    place = schedules.find(schedule).place
    return tuple(v for v in range(1, layers // ranks + 1) if not isinstance(place(ranks, v), str))


def devices_per_rank(devices: int, ranks: int) -> int:
    """Devices of each pipeline rank.

    Raises
    ------
    BadValue
        If the ranks do not divide the devices.
    """
    if devices % ranks:
        raise BadValue(f"{ranks} stages do not divide {devices} devices", "choose a divisor for pp")
    return devices // ranks


def placing(names: Sequence[str], chunks_per_rank: int) -> str:
    """The first of some schedules that knows so many chunks per rank, or the first of all."""
    able = (name for name in names if not isinstance(schedules.find(name).place(2, chunks_per_rank), str))
    return next(able, names[0])


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of a candidate.

    Attributes
    ----------
    schedule
        A name of :mod:`uniap_core.schedules`.
    ranks
        Number of pipeline ranks, P.
    chunks
        Pipeline rank of each chunk, in the order of the flow.
    """

    schedule: str
    ranks: int
    chunks: tuple[int, ...]

    @classmethod
    def of(cls, schedule: str, ranks: int, chunks_per_rank: int = 1) -> Pipeline:
        """The pipeline of a schedule with so many ranks and chunks on each.

        Raises
        ------
        UnknownName
            If there is no such schedule.
        BadValue
            If the schedule has no such placement, saying why.
        """
        if ranks < 1 or chunks_per_rank < 1:
            raise BadValue(f"{ranks} ranks of {chunks_per_rank} chunks are no pipeline", "give at least 1 of each")
        if ranks * chunks_per_rank > MOST_CHUNKS:
            raise BadValue(f"{ranks} ranks of {chunks_per_rank} chunks are too many", f"at most {MOST_CHUNKS} chunks")
        placed = schedules.find(schedule).place(ranks, chunks_per_rank)
        if isinstance(placed, str):
            raise BadValue(placed, "choose another schedule or another number of chunks")
        return cls(schedule, ranks, placed)

    @property
    def chunks_per_rank(self) -> int:
        """Chunks on each rank, v (virtual pipeline size)."""
        return len(self.chunks) // max(1, self.ranks)

    @property
    def name(self) -> str:
        """Short name, as in ``pp2`` or ``pp2-vpp4``; plain schedules are not named."""
        v = self.chunks_per_rank
        return f"pp{self.ranks}" + (f"-vpp{v}" if v > 1 else "")

    def devices_per_rank(self, devices: int) -> int:
        """Devices of one rank (:func:`devices_per_rank`)."""
        return devices_per_rank(devices, self.ranks)

    def block(self, rank: int, devices: int) -> range:
        """The devices of a rank: ranks take equal, consecutive blocks of them.

        Raises
        ------
        BadValue
            If the ranks do not divide the devices.
        """
        size = self.devices_per_rank(devices)
        return range(rank * size, (rank + 1) * size)

    @property
    def hops(self) -> tuple[tuple[int, int], ...]:
        """The different pairs of ranks between which tensors cross, in the order of the flow."""
        pairs = zip(self.chunks, self.chunks[1:], strict=False)
        return tuple(dict.fromkeys((here, there) for here, there in pairs if here != there))

    def weights(self, micro_batches: int) -> Weights:
        """What the objective multiplies at c micro-batches."""
        return schedules.find(self.schedule).weights(self.chunks, micro_batches)

    def legal(self, micro_batches: int) -> str:
        """Why the schedule cannot run c micro-batches on this shape, or ``""`` if it can."""
        return schedules.find(self.schedule).legal(self.ranks, self.chunks_per_rank, micro_batches)

    def order(self, micro_batches: int) -> schedules.Order:
        """Per rank what it runs, in its order."""
        return schedules.find(self.schedule).order(self.chunks, micro_batches)

    def in_flight(self, micro_batches: int) -> tuple[tuple[Moment, ...], ...]:
        """Per rank, the moments at which memory must hold; each has a count of micro-batches per chunk."""
        return schedules.find(self.schedule).in_flight(self.chunks, micro_batches)
