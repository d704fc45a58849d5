"""What a proposal looks like in a file, and the hash by which a verdict knows it.

The words of ``uniap.plan/1`` are fixed here, apart from the types of the core: how a proposal is held in memory may
change, its document and so every seal that was ever given may not. A field that comes later is optional and is left
out where it says nothing (:data:`msgspec.UNSET`), so that older documents keep their hash.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from . import artifact
from .cluster import Cluster
from .costs import MARGIN, Candidate, Loss, States, Training
from .errors import UniapError, Unverified
from .graph import ModelGraph
from .proposal import Hashes, LayerPlan, Prediction, Proposal, StagePlan
from .strategy import Recompute, Sharding, Strategy, StrategySpace

AGAIN = "plan again; pins (--pin) keep what you want"


class TrainingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is trained how, as written in a plan file: the schedule is part of it."""

    global_batch: int
    precision: str = "bf16"
    schedule: str = "1f1b"
    optimizer: str = "adamw"
    flash_attention: bool = True
    flash_version: Literal[1, 2, 3] = 2
    tensor_overlap: Literal["none", "backward", "all"] = "none"
    scatter_gather: bool = False
    dropout: bool = False
    states: States | UnsetType = UNSET
    loss: Loss | UnsetType = UNSET
    system: str | UnsetType = UNSET
    vocabulary_multiple: int | UnsetType = UNSET
    imbalance: float | UnsetType = UNSET
    buckets_bytes: float | UnsetType = UNSET
    documents: int | UnsetType = UNSET
    margin: float | UnsetType = UNSET


LATER = {
    "states": "mixed",
    "loss": "whole",
    "system": "",
    "vocabulary_multiple": 1,
    "imbalance": 1.0,
    "buckets_bytes": 0.0,
    "documents": 0,
    "margin": MARGIN,
}
"""Fields of a training that came later, and what they mean where they are left out."""


class LayerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A layer as written in a plan file: its strategy lies flat beside its stage."""

    name: str
    stage: int
    tp: int
    dp: int
    cp: int
    ep: int
    sharding: Sharding
    recompute: Recompute
    sequence_parallel: bool
    replicate: int | UnsetType = UNSET
    etp: int | UnsetType = UNSET
    kind: int | UnsetType = UNSET


class ProposalFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of ``uniap.plan/1`` that the verdict is about, in the order in which they are hashed."""

    model: ModelGraph
    cluster: Cluster
    space: StrategySpace
    cost_model: str
    global_batch: int
    sequence: int
    precision: str
    schedule: str
    training: TrainingFile
    pp: int
    vpp: int | UnsetType = UNSET
    micro_batches: int
    stages: tuple[StagePlan, ...]
    layers: tuple[LayerFile, ...]
    predicted: Prediction
    solver: str
    bound_s: float | None
    pins: tuple[str, ...] = ()
    regime: tuple[str, ...] = ()
    searched: tuple[str, ...] | UnsetType = UNSET
    hashes: Hashes


def to_file(proposal: Proposal) -> ProposalFile:
    """The document of a proposal."""
    return ProposalFile(
        model=proposal.model,
        cluster=proposal.cluster,
        space=proposal.space,
        cost_model=proposal.cost_model,
        global_batch=proposal.global_batch,
        sequence=proposal.sequence,
        precision=proposal.precision,
        schedule=proposal.schedule,
        training=_training_to_file(proposal.candidate),
        pp=proposal.pp,
        vpp=proposal.vpp if proposal.vpp > 1 else UNSET,
        micro_batches=proposal.micro_batches,
        stages=proposal.stages,
        layers=tuple(_layer_to_file(layer) for layer in proposal.layers),
        predicted=proposal.predicted,
        solver=proposal.solver,
        bound_s=proposal.bound_s,
        pins=proposal.pins,
        regime=proposal.regime,
        searched=proposal.searched or UNSET,
        hashes=proposal.hashes,
    )


def from_file(document: ProposalFile) -> Proposal:
    """The proposal that a decoded document describes.

    Raises
    ------
    Unverified
        If it contradicts itself, or says a pipeline or a strategy that there cannot be.
    """
    _check_repeated(document)
    return Proposal(
        model=document.model,
        cluster=document.cluster,
        space=document.space,
        cost_model=document.cost_model,
        candidate=_candidate_from_file(document),
        stages=document.stages,
        layers=tuple(_layer_from_file(layer) for layer in document.layers),
        predicted=document.predicted,
        solver=document.solver,
        bound_s=document.bound_s,
        pins=document.pins,
        regime=document.regime,
        searched=() if document.searched is UNSET else document.searched,
        hashes=document.hashes,
    )


def subject(proposal: Proposal) -> str:
    """Hash of what a verdict is about: a proposal's own document."""
    document = to_file(proposal)
    fields = (getattr(document, name) for name in ProposalFile.__struct_fields__)
    return artifact.digest([field for field in fields if field is not UNSET])


def _training_to_file(candidate: Candidate) -> TrainingFile:
    fields = msgspec.structs.asdict(candidate.training)
    for name, usual in LATER.items():
        fields[name] = UNSET if fields[name] == usual else fields[name]
    return TrainingFile(**fields, schedule=candidate.schedule)


def _candidate_from_file(document: ProposalFile) -> Candidate:
    fields = {name: value for name, value in msgspec.structs.asdict(document.training).items() if value is not UNSET}
    schedule = fields.pop("schedule")
    try:
        vpp = 1 if document.vpp is UNSET else document.vpp
        return Candidate.of(document.pp, document.micro_batches, Training(**fields), schedule, vpp)
    except UniapError as error:
        raise Unverified(f"the plan was edited: {error.cause}", AGAIN) from None


def _layer_to_file(layer: LayerPlan) -> LayerFile:
    s = layer.strategy
    return LayerFile(
        name=layer.name,
        stage=layer.stage,
        tp=s.tp,
        dp=s.dp,
        cp=s.cp,
        ep=s.ep,
        sharding=s.sharding,
        recompute=s.recompute,
        sequence_parallel=s.sequence_parallel,
        replicate=s.replicate if s.replicate > 1 else UNSET,
        etp=s.etp,
        kind=UNSET if layer.kind is None else layer.kind,
    )


def _layer_from_file(layer: LayerFile) -> LayerPlan:
    try:
        strategy = Strategy(
            tp=layer.tp,
            dp=layer.dp,
            cp=layer.cp,
            ep=layer.ep,
            etp=layer.etp,
            sharding=layer.sharding,
            recompute=layer.recompute,
            sequence_parallel=layer.sequence_parallel,
            replicate=1 if layer.replicate is UNSET else layer.replicate,
        )
    except UniapError as error:
        raise Unverified(f"the plan was edited: layer {layer.name}: {error.cause}", AGAIN) from None
    return LayerPlan(layer.name, layer.stage, strategy, None if layer.kind is UNSET else layer.kind)


def _check_repeated(document: ProposalFile) -> None:
    """What the document says twice, it must say alike."""
    twice = {
        "global_batch": (document.global_batch, document.training.global_batch, "training"),
        "precision": (document.precision, document.training.precision, "training"),
        "schedule": (document.schedule, document.training.schedule, "training"),
        "sequence": (document.sequence, document.model.sequence, "model"),
    }
    for name, (said, own, where) in twice.items():
        if said != own:
            raise Unverified(f"the plan was edited: its {name} is {said}, and its {where}'s is {own}", AGAIN)
