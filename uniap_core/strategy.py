"""Strategies: how the devices of one stage share one layer, as values on named axes, and the space they are from.

Adding an axis is adding a row to :data:`AXES` and a field to :class:`Strategy`; how the degrees arrange ranks is in
:mod:`uniap_core.axes` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import gcd
from typing import Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from .axes import Grids, Groups, Layout, Span, arrange, cut, shards
from .errors import BadValue
from .limits import Degree
from .modules import MODULES, misspelt

Sharding = Literal["none", "zero1", "zero2", "zero3"]
Recompute: TypeAlias = str
"""``none``, ``full`` or a set of modules (:mod:`uniap_core.modules`), of which ``selective`` is one."""

SHARDINGS: tuple[Sharding, ...] = ("none", "zero1", "zero2", "zero3")
RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "full")

Value: TypeAlias = int | str | bool


class Axis(NamedTuple):
    """One axis of a strategy.

    Attributes
    ----------
    name, title
        Its field, and what people call it.
    kind
        ``degree``: a number of ranks. ``word``: one of ``words``, of which the first goes without saying. ``switch``:
        true or false.
    said
        Whether its degree is part of a strategy's name even where it is 1.
    follows
        The axis whose degree is its own where it is not stored; then its degree is said wherever it is stored.
    short
        The switch in a strategy's name.
    parts
        Words that may be joined by ``+`` beside ``words``.
    """

    name: str
    title: str
    kind: Literal["degree", "word", "switch"] = "degree"
    words: tuple[str, ...] = ()
    said: bool = False
    short: str = ""
    follows: str = ""
    parts: tuple[str, ...] = ()

    def part(self, value: Value) -> str:
        """What a value adds to the name of a strategy."""
        if self.kind == "degree":
            return f"{self.name}{value}" if self.said or self.follows or value != 1 else ""
        if self.kind == "word":
            return str(value) if value != self.words[0] else ""
        return self.short if value else ""

    @property
    def pattern(self) -> str:
        """The parts that :meth:`part` writes, as a regular expression."""
        parts = "|".join(self.parts)
        more = (rf"(?:{parts})(?:\+(?:{parts}))*",) if parts else ()
        words = "|".join((*self.words[1:], *more))
        found = {"degree": rf"{self.name}[1-9]\d*", "word": words, "switch": self.short}[self.kind]
        return f"(?P<{self.name}>{found})"

    def value(self, part: str | None) -> Value:
        """The value that a part of a name says; none says the value that goes without saying."""
        if self.kind == "degree":
            return int(part.removeprefix(self.name)) if part else 1
        return (part or self.words[0]) if self.kind == "word" else bool(part)


AXES: tuple[Axis, ...] = (
    Axis("tp", "tensor-parallel degree", said=True),
    Axis("dp", "data-parallel degree", said=True),
    Axis("cp", "context-parallel degree"),
    Axis("ep", "expert-parallel degree"),
    Axis("etp", "expert-tensor-parallel degree", follows="tp"),
    Axis("sharding", "sharding", kind="word", words=SHARDINGS),
    Axis("replicate", "number of replicas of shard groups"),
    Axis("recompute", "recomputation", kind="word", words=RECOMPUTES, parts=MODULES),
    Axis("sequence_parallel", "choice of sequence parallelism", kind="switch", short="sp"),
)
"""All axes, in the order in which a strategy's name says them."""

DEGREES = tuple(axis.name for axis in AXES if axis.kind == "degree")


class Strategy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one layer is split over the devices of its stage: a value on each of :data:`AXES`.

    ``tp * dp * cp`` is the number of devices of the stage. Experts lie on a grid of their own over the same devices:
    ``ep`` spreads them, ``etp`` cuts each of them (as ``tp`` does where it is not said: it is never stored then), so
    ``etp * ep`` divides the devices. ``sequence_parallel`` splits what tensor parallelism leaves whole (Korthikanti et
    al. 2022). ``strategy["etp"]`` is the degree in either case.
    """

    tp: Degree = 1
    dp: Degree = 1
    cp: Degree = 1
    ep: Degree = 1
    etp: Degree | UnsetType = UNSET
    sharding: Sharding = "none"
    replicate: Degree = 1
    recompute: Recompute = "none"
    sequence_parallel: bool = False

    def __post_init__(self) -> None:
        for name in DEGREES:
            if self[name] < 1:  # type: ignore[operator]
                raise BadValue(f"{name} is {self[name]}", "degrees are 1 or more")
        if self.etp == self.tp:
            msgspec.structs.force_setattr(self, "etp", UNSET)
        try:
            arrange(tp=self.tp, cp=self.cp, dp=self.dp, ep=self.ep, etp=self["etp"])
        except ValueError as error:
            raise BadValue(str(error), "choose a divisor") from None
        if self.replicate > 1:
            self._check_replicas()
        if self.recompute not in RECOMPUTES and (wrong := misspelt(self.recompute)):
            raise BadValue(wrong, f"join modules by +: {', '.join(MODULES)}")

    def _check_replicas(self) -> None:
        """Refuse replicas of shard groups that there cannot be."""
        if self.sharding == "none":
            raise BadValue(f"replicate is {self.replicate}, and nothing is sharded", "shard, or leave replicate out")
        data, experts = self.grids.data.size, self.grids.expert_data.size
        if data % self.replicate or data == self.replicate:
            raise BadValue(
                f"replicate {self.replicate} does not part the {data} ranks of dp * cp into shard groups",
                "choose a divisor that leaves two ranks in each at least",
            )
        if experts % self.replicate:
            raise BadValue(
                f"replicate {self.replicate} does not divide the {experts} ranks that hold the same experts",
                "choose a divisor of both, or less expert parallelism",
            )

    def __getitem__(self, axis: str) -> Value:
        """Its value on an axis."""
        value: Value | UnsetType = getattr(self, axis)
        return self.tp if isinstance(value, UnsetType) else value

    @property
    def grids(self) -> Grids:
        """How it arranges the ranks of a stage."""
        return arrange(tp=self.tp, cp=self.cp, dp=self.dp, ep=self.ep, etp=None if self.etp is UNSET else self.etp)

    @property
    def folded(self) -> bool:
        """Whether experts are cut otherwise than what is dense."""
        return self.etp is not UNSET

    @property
    def devices(self) -> int:
        """Devices that it uses: those of one stage."""
        return self.grids.dense.ranks

    def parts(self, state: str) -> tuple[int, int]:
        """Into how many parts a state of dense parameters, and one of experts, is cut over the ranks that hold it.

        Parameters
        ----------
        state
            ``parameters``, ``gradients`` or ``optimizer``.
        """
        dense, expert = self.grids.data, self.grids.expert_data
        return cut(state, self.sharding, dense, self.replicate), cut(state, self.sharding, expert, self.replicate)

    def groups(self, ranks: Sequence[int]) -> dict[str, Groups]:
        """The groups of every kind on the ranks of its stage; of replicas, where there are any, too.

        ``shard`` and ``replicate`` are those of dense parameters.
        """
        found = self.grids.groups(ranks)
        if self.replicate > 1:
            share, copies = self.shards(self.grids.data)
            found |= {"shard": share.groups(ranks), "replicate": copies.groups(ranks)}
        return found

    def shards(self, data: Span) -> tuple[Span, Span]:
        """Of the ranks that hold the same parameters, those that share states, and those with copies of one share."""
        return shards(data, self.sharding, self.replicate)

    @property
    def layout(self) -> Layout:
        """How its activations lie on the devices."""
        return Layout(self.grids.dense, self.sequence_parallel)

    @property
    def name(self) -> str:
        """The canonical name, as in ``tp2-dp4-zero3-full-sp``; :func:`parse` inverts it."""
        return "-".join(self._parts.values())

    @property
    def words(self) -> str:
        """The strategy as people say it: ``tp2 x dp4 zero3, recompute full``."""
        said = self._parts
        degrees = " x ".join(said[name] for name in DEGREES if name in said and name != "replicate")
        text = f"{degrees} {said.get('sharding', '')}".rstrip()
        text += f" in {self.replicate} replicas" if self.replicate > 1 else ""
        return f"{text}, recompute {self.recompute}" if "recompute" in said else text

    @property
    def _parts(self) -> dict[str, str]:
        """What each axis adds to the name, without those that add nothing."""
        stored = ((axis, getattr(self, axis.name)) for axis in AXES)
        parts = {axis.name: axis.part(value) for axis, value in stored if value is not UNSET}
        return {name: part for name, part in parts.items() if part}


_NAME = re.compile(
    "-".join(axis.pattern for axis in AXES if axis.said)
    + "".join(f"(?:-{axis.pattern})?" for axis in AXES if not axis.said)
)


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
    return msgspec.convert({axis.name: axis.value(match[axis.name]) for axis in AXES if match[axis.name]}, Strategy)


LONG, LEAST = 8192, 2048
"""Context parallelism is considered for sequences of so many positions or more, down to so many on each rank."""


class Extent(NamedTuple):
    """What of a layer the axes can cut that not every layer has (:mod:`uniap_core.menus`).

    ``experts`` is their number (0: none), ``positions`` the sequence that context parallelism can cut (0: none),
    ``sets`` the sets of modules that are worth recomputing (:func:`uniap_core.modules.menu`).
    """

    experts: int = 0
    positions: int = 0
    sets: tuple[str, ...] = ()


UNCUT = Extent()


class StrategySpace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which strategies a plan may use. Executors and pins narrow it; ``None`` leaves a degree free.

    Attributes
    ----------
    tp, dp, cp, ep
        Allowed degrees. Free tensor parallel degrees divide the stage and the node, so that no group spans two nodes.
        Free context parallel degrees cut sequences of :data:`LONG` positions or more into parts of at least
        :data:`LEAST`; free expert parallel degrees divide a layer's experts, on the expert grid.
    etp
        Into how many parts each expert is cut. Left out: as tensor parallelism cuts all else, and, where ``ep`` is
        free, not at all (of published recipes with both, all set 1 or what tp is).
    shardings, recomputes
        Allowed values.
    replicate
        Allowed numbers of replicas of shard groups; left out: 1. ``None``: those that can pay (:data:`REPLICATED`).
    modules
        Modules whose sets are considered beside ``recomputes`` where a layer gains by them; left out: none.
    sequence_parallel
        ``None`` turns it on wherever tp > 1; True and False force it.
    max_strategies
        At most so many different strategies in one plan; 1 is a uniform plan (Megatron), ``None`` is no limit.
    """

    tp: tuple[int, ...] | None = None
    dp: tuple[int, ...] | None = None
    cp: tuple[int, ...] | None = None
    ep: tuple[int, ...] | None = None
    etp: tuple[int, ...] | UnsetType = UNSET
    shardings: tuple[Sharding, ...] = SHARDINGS
    recomputes: tuple[Recompute, ...] = RECOMPUTES
    replicate: tuple[int, ...] | UnsetType | None = UNSET
    modules: tuple[str, ...] | UnsetType = UNSET
    sequence_parallel: bool | None = None
    max_strategies: int | None = None

    @property
    def uniform(self) -> bool:
        """True if all layers must use one strategy."""
        return self.max_strategies == 1

    def strategies(self, devices: int, node: int, extent: Extent = UNCUT) -> tuple[Strategy, ...]:
        """All strategies of the space for a layer on a stage.

        Parameters
        ----------
        devices
            Devices of the stage.
        node
            Devices of a node (of unequal nodes, what divides all): a free tensor parallel group stays inside it.
        extent
            What of the layer can be cut; of free degrees there is only 1 where nothing can.
        """
        return _menu(self, devices, node, extent)

    def _generate(self, devices: int, node: int, extent: Extent) -> Iterator[Strategy]:
        known = set(() if self.modules is UNSET else self.modules)
        recomputes = (*self.recomputes, *(s for s in extent.sets if known.issuperset(s.split("+"))))
        for tp in divisors(devices):
            if node % tp if self.tp is None else tp not in self.tp:
                continue
            data = devices // tp
            sequence_parallel = tp > 1 and self.sequence_parallel is not False
            experts = tuple(self._expert_grids(devices, tp, extent, fold=sequence_parallel))
            for cp in self._contexts(data, extent.positions):
                dp = data // cp
                if self.dp is not None and dp not in self.dp:
                    continue
                shardings = self.shardings if data > 1 else ("none",)
                for ep, etp in experts:
                    edp = arrange(tp=tp, dp=data, ep=ep, etp=etp).expert_data.size
                    for sharding, replicate in self._sharings(shardings, data, edp, node // tp):
                        for recompute in recomputes:
                            yield Strategy(
                                tp=tp,
                                dp=dp,
                                cp=cp,
                                ep=ep,
                                etp=etp,
                                sharding=sharding,
                                replicate=replicate,
                                recompute=recompute,
                                sequence_parallel=sequence_parallel,
                            )

    def _sharings(
        self, shardings: tuple[Sharding, ...], data: int, experts: int, near: int
    ) -> Iterator[tuple[Sharding, int]]:
        """Shardings with numbers of replicas, of ``data`` ranks, ``experts`` for theirs, ``near`` a node."""
        stated = (1,) if self.replicate is UNSET else self.replicate
        for sharding in shardings:
            sizes = [near * nodes for nodes in REPLICATED.get(sharding, ())]
            paying = (data // size for size in sizes if 1 < size < data and data % size == 0)
            for replicate in (1, *paying) if stated is None else stated:
                fits = sharding != "none" and replicate < data and not (data % replicate or experts % replicate)
                if replicate == 1 or fits:
                    yield sharding, replicate

    def _contexts(self, data: int, positions: int) -> Iterator[int]:
        """Context parallel degrees; two pieces of the sequence on each rank balance a causal mask."""
        if self.cp is not None:
            yield from (cp for cp in self.cp if data % cp == 0)
            return
        most = positions // LEAST if positions >= LONG else 1
        yield from (cp for cp in divisors(data) if cp == 1 or (cp <= most and positions % (2 * cp) == 0))

    def _expert_grids(self, devices: int, tp: int, extent: Extent, *, fold: bool) -> Iterator[tuple[int, int]]:
        """Degrees ep and etp. Ranks that hold slices of the rows alone can hold whole experts (``fold``)."""
        if not extent.experts:
            stated = self.ep if self.ep is not None and self.etp is UNSET else (1,)
            yield from ((ep, tp) for ep in stated if devices // tp % ep == 0)
            return
        usual = (tp, 1) if self.ep is None else (tp,)
        for etp in dict.fromkeys(usual if self.etp is UNSET else self.etp):
            left, over = divmod(devices, etp)
            if over or (etp != tp and not fold):
                continue
            wanted = divisors(gcd(extent.experts, left)) if self.ep is None else self.ep
            yield from ((ep, etp) for ep in wanted if left % ep == 0)


@lru_cache(maxsize=4096)
def _menu(space: StrategySpace, devices: int, node: int, extent: Extent) -> tuple[Strategy, ...]:
    """Sweeps ask for the same menus at every candidate, and each strategy checks its grids."""
    return tuple(dict.fromkeys(space._generate(devices, node, extent)))


REPLICATED: dict[Sharding, tuple[int, ...]] = {"zero1": (1,), "zero3": (1, 8)}
"""Shardings that are considered with replicas, and over how many nodes each shard group then lies.

Those are Megatron-Core's optimizer instances, and the hybrid sharding of FSDP and torchtitan. Groups that would lie on
one node anyway gain nothing: replicas pay where a group would span more nodes. Within one it has the fast links alone;
further out a ring's latency grows with its length and its bandwidth stays, so that one size more will do (OLMo 2 and 3
shard over 64 devices).
"""

FREE = StrategySpace(replicate=None, modules=MODULES)
"""All that a search considers by itself."""


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
