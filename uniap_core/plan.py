"""The plan: a proposal that passed verification, sealed together with its verdict and the proof of the sweep."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from . import artifact
from .errors import Unverified
from .proposal import CandidateProof, Proposal, subject
from .verify.verdict import Verdict


class Plan(Proposal, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The document ``uniap.plan/1``. Made by :func:`seal` alone; ``check_seal`` tells whether it still is what it was.

    Attributes
    ----------
    proof
        One record per candidate of the sweep.
    verdict
        The verifier's checks.
    seal
        Hash of everything else.
    """

    schema: Literal["uniap.plan/1"] = "uniap.plan/1"
    proof: tuple[CandidateProof, ...]
    verdict: Verdict
    seal: str


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
    fields = {name: getattr(proposal, name) for name in Proposal.__struct_fields__}
    return Plan(**fields, proof=proof, verdict=verdict, seal=_seal_of(proposal, proof, verdict))


def check_seal(plan: Plan) -> None:
    """Refuse a plan that was edited after it was sealed, or whose verdict did not pass.

    Raises
    ------
    Unverified
        Saying which.
    """
    if not plan.verdict.passed:
        raise Unverified("the plan's verdict is missing or failed", "plan again, or run uniap verify to see why")
    if plan.verdict.subject != subject(plan):
        raise Unverified("the plan was edited after it was verified", "plan again; pins (--pin) keep what you want")
    if plan.seal != _seal_of(plan, plan.proof, plan.verdict):
        raise Unverified("the plan's proof or verdict was edited", "plan again")


def read(path: str | os.PathLike[str]) -> Plan:
    """Read a plan file strictly; its seal is not checked here.

    Raises
    ------
    BadFile, BadValue
        If it does not decode.
    """
    return artifact.read(path, Plan)


def write(path: str | os.PathLike[str], plan: Plan) -> None:
    """Write a plan file, atomically."""
    artifact.write(path, plan)


def _seal_of(proposal: Proposal, proof: tuple[CandidateProof, ...], verdict: Verdict) -> str:
    return artifact.digest([subject(proposal), list(proof), msgspec.to_builtins(verdict)])
