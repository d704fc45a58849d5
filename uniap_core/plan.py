"""The plan: a proposal that passed verification, sealed together with its verdict and the proof of the sweep."""

from __future__ import annotations

import os
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from . import artifact, proposal_file
from .cluster import Cluster
from .costs import Candidate, Training
from .errors import Unverified
from .graph import ModelGraph
from .proposal import CandidateProof, Hashes, Known, LayerPlan, Prediction, Proposal, StagePlan
from .proposal_file import ProposalFile, subject
from .strategy import StrategySpace
from .verify.verdict import Verdict


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A judged proposal. Made by :func:`seal` alone; ``check_seal`` tells whether it still is what it was.

    What the proposal says can be asked of the plan as well: ``plan.pp`` is ``plan.proposal.pp``.

    Attributes
    ----------
    proposal
        What is planned.
    proof
        One record per candidate of the sweep.
    verdict
        The verifier's checks.
    seal
        Hash of everything else.
    """

    proposal: Proposal
    proof: tuple[CandidateProof, ...]
    verdict: Verdict
    seal: str

    def __repr__(self) -> str:
        return f"<Plan {self.proposal.title}>"

    # --- what the proposal says -----------------------------------------------------------------------------

    @property
    def model(self) -> ModelGraph:
        """The model's graph."""
        return self.proposal.model

    @property
    def cluster(self) -> Cluster:
        """The machines."""
        return self.proposal.cluster

    @property
    def space(self) -> StrategySpace:
        """The freedom that it was planned with."""
        return self.proposal.space

    @property
    def cost_model(self) -> str:
        """Who priced it, as ``name/version``."""
        return self.proposal.cost_model

    @property
    def candidate(self) -> Candidate:
        """Stages, micro-batches and what is trained."""
        return self.proposal.candidate

    @property
    def training(self) -> Training:
        """What is trained how."""
        return self.proposal.training

    @property
    def global_batch(self) -> int:
        """Samples per iteration."""
        return self.proposal.global_batch

    @property
    def sequence(self) -> int:
        """Positions per sample."""
        return self.proposal.sequence

    @property
    def precision(self) -> str:
        """Precision of the training."""
        return self.proposal.precision

    @property
    def schedule(self) -> str:
        """Name of the pipeline's schedule."""
        return self.proposal.schedule

    @property
    def pp(self) -> int:
        """Number of pipeline ranks, P."""
        return self.proposal.pp

    @property
    def vpp(self) -> int:
        """Chunks on each pipeline rank, v."""
        return self.proposal.vpp

    @property
    def chunks(self) -> tuple[int, ...]:
        """Pipeline rank of each stage, in the order of the flow."""
        return self.proposal.chunks

    @property
    def searched(self) -> tuple[str, ...]:
        """The schedules that were considered; empty where it was its own alone."""
        return self.proposal.searched

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules that were considered, its own at least."""
        return self.proposal.schedules

    @property
    def held(self) -> tuple[tuple[StagePlan, ...], ...]:
        """The stages of each pipeline rank, in the order of the flow."""
        return self.proposal.held

    @property
    def by_rank(self) -> tuple[StagePlan, ...]:
        """Each pipeline rank as one stage."""
        return self.proposal.by_rank

    @property
    def links_s(self) -> dict[str, float]:
        """Seconds per micro-batch of what goes from one pipeline rank to another, all chunks together."""
        return self.proposal.links_s

    @property
    def shape(self) -> str:
        """``pp4``, or ``pp4 x vpp2`` where ranks hold several chunks."""
        return self.proposal.shape

    @property
    def micro_batches(self) -> int:
        """Micro-batches per iteration."""
        return self.proposal.micro_batches

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        """The placement by stage."""
        return self.proposal.stages

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        """The placement by layer."""
        return self.proposal.layers

    @property
    def predicted(self) -> Prediction:
        """Time per iteration and its parts."""
        return self.proposal.predicted

    @property
    def solver(self) -> str:
        """Who found it."""
        return self.proposal.solver

    @property
    def bound_s(self) -> float | None:
        """Proven lower bound over all candidates of the sweep, seconds."""
        return self.proposal.bound_s

    @property
    def pins(self) -> tuple[str, ...]:
        """What the user fixed."""
        return self.proposal.pins

    @property
    def regime(self) -> tuple[str, ...]:
        """What the executor that it was planned for asks of plans like this one."""
        return self.proposal.regime

    @property
    def hashes(self) -> Hashes:
        """Content hashes of what it came from."""
        return self.proposal.hashes


class CandidateFile(Known, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record of the proof as written in a plan file; what is left out is the plan's schedule, and one chunk."""

    schedule: str | UnsetType = UNSET
    vpp: int | UnsetType = UNSET
    strategies: int | UnsetType = UNSET
    dominated: int | UnsetType = UNSET


class PlanFile(ProposalFile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document ``uniap.plan/1``."""

    schema: Literal["uniap.plan/1"] = "uniap.plan/1"
    proof: tuple[CandidateFile, ...]
    verdict: Verdict
    seal: str


def to_file(plan: Plan) -> PlanFile:
    """The document of a plan."""
    document = proposal_file.to_file(plan.proposal)
    fields = {name: getattr(document, name) for name in ProposalFile.__struct_fields__}
    return PlanFile(**fields, proof=_proof_to_file(plan.proposal, plan.proof), verdict=plan.verdict, seal=plan.seal)


def from_file(document: PlanFile) -> Plan:
    """The plan that a decoded document describes; its seal is not checked here.

    Raises
    ------
    Unverified
        If the document contradicts itself.
    """
    proposal = proposal_file.from_file(document)
    proof = tuple(_record_from_file(record, proposal.schedule) for record in document.proof)
    return Plan(proposal=proposal, proof=proof, verdict=document.verdict, seal=document.seal)


def seal(proposal: Proposal, proof: tuple[CandidateProof, ...], verdict: Verdict) -> Plan:
    """Make a plan from a proposal and its passing verdict.

    Raises
    ------
    Unverified
        If the verdict failed, or is about another proposal.
    """
    if not verdict.passed:
        reasons = "; ".join(f"{check.name}: {check.evidence}" for check in verdict.failed) or "no check was made"
        fixes = "; ".join(check.fix for check in verdict.failed if check.fix)
        raise Unverified(f"the verifier rejects the plan: {reasons}", fixes or "plan again")
    if verdict.subject != subject(proposal):
        raise Unverified("the verdict is about another proposal", "verify this one")
    return Plan(proposal=proposal, proof=proof, verdict=verdict, seal=_seal_of(proposal, proof, verdict))


def check_seal(plan: Plan) -> None:
    """Refuse a plan that was edited after it was sealed, or whose verdict did not pass.

    Raises
    ------
    Unverified
        Saying which.
    """
    if not plan.verdict.passed:
        raise Unverified("the plan's verdict is missing or failed", "plan again, or run uniap verify to see why")
    if plan.verdict.subject != subject(plan.proposal):
        raise Unverified("the plan was edited after it was verified", "plan again; pins (--pin) keep what you want")
    if plan.seal != _seal_of(plan.proposal, plan.proof, plan.verdict):
        raise Unverified("the plan's proof or verdict was edited", "plan again")


def read(path: str | os.PathLike[str]) -> Plan:
    """Read a plan file strictly; its seal is not checked here.

    Raises
    ------
    BadFile
        If it does not decode.
    Unverified
        If it contradicts itself.
    """
    return from_file(artifact.read(path, PlanFile))


def write(path: str | os.PathLike[str], plan: Plan) -> None:
    """Write a plan file, atomically."""
    artifact.write(path, to_file(plan))


def _seal_of(proposal: Proposal, proof: tuple[CandidateProof, ...], verdict: Verdict) -> str:
    return artifact.digest([subject(proposal), _proof_to_file(proposal, proof), msgspec.to_builtins(verdict)])


def _proof_to_file(proposal: Proposal, proof: tuple[CandidateProof, ...]) -> tuple[CandidateFile, ...]:
    return tuple(_record_to_file(record, proposal.schedule) for record in proof)


def _record_to_file(record: CandidateProof, usual: str) -> CandidateFile:
    fields = msgspec.structs.asdict(record)
    fields["schedule"] = UNSET if record.schedule == usual else record.schedule
    fields["vpp"] = UNSET if record.vpp == 1 else record.vpp
    return CandidateFile(**fields)


def _record_from_file(record: CandidateFile, usual: str) -> CandidateProof:
    fields = {name: value for name, value in msgspec.structs.asdict(record).items() if value is not UNSET}
    return CandidateProof(**{"schedule": usual, **fields})
