"""Two plans side by side: what changes, and what it buys."""

from __future__ import annotations

from itertools import groupby

import msgspec

from ..errors import UsageError
from ..proposal import LayerPlan, Proposal
from .runs import ranges
from .words import USUAL, said, time_shares


class LayerChange(msgspec.Struct, frozen=True, kw_only=True):
    """Layers that move or change their strategy in the same way; ``word`` is what they move between."""

    layers: tuple[str, ...]
    old_stage: int
    new_stage: int
    old_strategy: str
    new_strategy: str
    word: str = "stage"

    def sentence(self) -> str:
        """The change in words."""
        title = ", ".join(ranges(self.layers))
        if len(title) > 40:
            title = f"{len(self.layers)} layers, {self.layers[0]} ..."
        parts = []
        if self.old_stage != self.new_stage:
            parts.append(f"{self.word} {self.old_stage} -> {self.new_stage}")
        if self.old_strategy != self.new_strategy:
            parts.append(f"{self.old_strategy} -> {self.new_strategy}")
        return f"{title}: {'; '.join(parts)}"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What changes from one plan to another.

    Attributes
    ----------
    settings
        Old and new value of what differs in general (pp, micro_batches, cluster, ...).
    faster
        Relative speed-up of the new plan in samples per second (negative: slower).
    shares
        Old and new share of the iteration by cause.
    stage_time_s, stage_memory_bytes
        Old and new figure per stage, ``None`` where a plan has no such stage.
    """

    settings: dict[str, tuple[str, str]]
    layers: tuple[LayerChange, ...]
    faster: float
    shares: dict[str, tuple[float, float]]
    stage_time_s: tuple[tuple[float | None, float | None], ...]
    stage_memory_bytes: tuple[tuple[float | None, float | None], ...]


def difference(old: Proposal, new: Proposal) -> Difference:
    """Compare two plans of one model.

    Raises
    ------
    UsageError
        If they are of different models.
    """
    if [layer.name for layer in old.model.layers] != [layer.name for layer in new.model.layers]:
        raise UsageError(
            f"the plans are of different models, {old.model.name} and {new.model.name}", "compare plans of one model"
        )
    pairs = {
        "cluster": (old.cluster.name, new.cluster.name),
        "batch": (str(old.global_batch), str(new.global_batch)),
        "stages": (str(old.pp), str(new.pp)),
        "chunks per stage": (str(old.vpp), str(new.vpp)),
        "micro-batches": (str(old.micro_batches), str(new.micro_batches)),
        "schedule": (old.schedule, new.schedule),
        "precision": (old.precision, new.precision),
        "trained": (_trained(old), _trained(new)),
        **{name: (said(old.training, name), said(new.training, name)) for name in USUAL},
        "cost model": (old.cost_model, new.cost_model),
    }
    before, after = time_shares(old), time_shares(new)
    return Difference(
        settings={name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
        layers=_layer_changes(old, new),
        faster=new.predicted.samples_per_s / old.predicted.samples_per_s - 1,
        shares={name: (before.get(name, 0.0), after.get(name, 0.0)) for name in {**before, **after}},
        stage_time_s=_pairs([s.time_s for s in old.by_rank], [s.time_s for s in new.by_rank]),
        stage_memory_bytes=_pairs([s.memory_bytes for s in old.by_rank], [s.memory_bytes for s in new.by_rank]),
    )


def _trained(plan: Proposal) -> str:
    """What was chosen to be trained of a plan's model, in words."""
    return " ".join(" ".join(option) for option in plan.model.chosen) or "as the model's source says"


def _layer_changes(old: Proposal, new: Proposal) -> tuple[LayerChange, ...]:
    found = {layer.name: layer for layer in new.layers}

    def key(layer: LayerPlan) -> tuple[int, int, str, str]:
        other = found[layer.name]
        return layer.stage, other.stage, layer.strategy.words, other.strategy.words

    changes, word = [], "stage" if old.vpp == new.vpp == 1 else "chunk"
    for (i, j, before, after), group in groupby(old.layers, key=key):
        names = tuple(layer.name for layer in group)
        if (i, before) != (j, after):
            changes.append(
                LayerChange(layers=names, old_stage=i, new_stage=j, old_strategy=before, new_strategy=after, word=word)
            )
    return tuple(changes)


def _pairs(old: list[float], new: list[float]) -> tuple[tuple[float | None, float | None], ...]:
    count = max(len(old), len(new))
    return tuple((old[i] if i < len(old) else None, new[i] if i < len(new) else None) for i in range(count))


def lines(found: Difference) -> list[str]:
    """The difference in plain lines."""
    rows = [f"{name}: {before} -> {after}" for name, (before, after) in found.settings.items()]
    rows += [change.sentence() for change in found.layers]
    if not rows:
        return ["the plans are the same"]
    rows.append(f"speed: {found.faster:+.2%} samples/s")
    for name, (before, after) in sorted(found.shares.items(), key=lambda item: item[1][0] - item[1][1]):
        if abs(before - after) >= 0.005:
            rows.append(f"{name.replace('_', ' ')}: {before:.1%} -> {after:.1%} of the iteration")
    for i, (times, memory) in enumerate(zip(found.stage_time_s, found.stage_memory_bytes, strict=True)):
        rows.append(f"stage {i}: {_seconds(times)}, {_gib(memory)}")
    return rows


def _seconds(pair: tuple[float | None, float | None]) -> str:
    return " -> ".join("none" if t is None else f"{t * 1e3:.4g} ms" for t in pair)


def _gib(pair: tuple[float | None, float | None]) -> str:
    return " -> ".join("none" if b is None else f"{b / 2**30:.1f} GiB" for b in pair)
