"""The proof of the sweep: every candidate is accounted for, and no record contradicts the plan."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..pins import Pins
from ..proposal import CandidateProof, Proposal
from ..strategy import divisors
from .numbers import RELATIVE
from .orders import FOLDED, LOOPED
from .verdict import Check, conclude


def sweep_proof(proposal: Proposal, records: Sequence[CandidateProof]) -> Check:
    """Hold the records of all candidates against the plan and against what candidates there are.

    The candidates are counted here anew: every number of stages that divides the devices and fills its stages, with
    every number of chunks that the schedules know and every number of micro-batches that divides the batch, as far as
    the pins allow.
    """
    pins = Pins.of(proposal.pins)
    expected = {
        (schedule, pp, vpp, c)
        for schedule in proposal.schedules
        for pp in divisors(proposal.cluster.devices)
        for vpp in _chunks_per_rank(schedule, pp, len(proposal.model.layers))
        for c in divisors(proposal.global_batch)
        if pins.allows(pp, c, schedule, vpp)
    }
    listed = [(record.schedule, record.pp, record.vpp, record.micro_batches) for record in records]
    faults = [f"candidate {_name(*key)} has no record" for key in sorted(expected - set(listed))]
    faults += [f"candidate {_name(*key)} is no candidate" for key in sorted(set(listed) - expected)]
    if len(set(listed)) < len(listed):
        faults.append("a candidate has two records")
    faults += [fault for record in records for fault in _contradictions(proposal, record)]
    open_ones = sum(record.outcome == "limit" for record in records)
    counts = ", ".join(
        f"{count} {outcome}"
        for outcome in ("solved", "pruned", "infeasible", "impossible", "limit")
        if (count := sum(record.outcome == outcome for record in records))
    )
    evidence = f"all {len(expected)} candidates have a record: {counts}"
    evidence += f"; {open_ones} are open, within the claimed bound" if open_ones else ""
    return conclude("proof", faults, evidence, "plan again; a proof is never edited by hand")


def _chunks_per_rank(schedule: str, pp: int, layers: int) -> Sequence[int]:
    """Every number of chunks per rank that leaves none empty; several need two ranks."""
    most = layers // pp
    if schedule in LOOPED:
        return range(2, most + 1) if pp > 1 else ()
    if schedule in FOLDED:
        return (2,) if pp > 1 and most >= 2 else ()
    return (1,) if most >= 1 else ()


def _name(schedule: str, pp: int, vpp: int, micro_batches: int) -> str:
    return f"{schedule} pp{pp}" + (f"-vpp{vpp}" if vpp > 1 else "") + f"-c{micro_batches}"


def _contradictions(proposal: Proposal, record: CandidateProof) -> list[str]:
    name, said = record.name, proposal.bound_s
    seconds, bound_s = record.objective_s, record.bound_s
    faults = []
    own = proposal.schedule, proposal.pp, proposal.vpp, proposal.micro_batches
    if (record.schedule, record.pp, record.vpp, record.micro_batches) == own:
        if seconds is None or record.outcome not in ("solved", "limit"):
            faults.append(f"{name} is the plan's own candidate, and its record says {record.outcome}")
        elif not math.isclose(seconds, proposal.predicted.iteration_time_s, rel_tol=RELATIVE):
            faults.append(
                f"{name} is recorded with {seconds:.9g} s, and the plan takes "
                f"{proposal.predicted.iteration_time_s:.9g} s"
            )
    if record.outcome == "solved" and (seconds is None or bound_s is None):
        faults.append(f"{name} is called solved without an objective and a bound")
    if record.outcome == "pruned" and bound_s is None:
        faults.append(f"{name} is called pruned without a bound")
    if seconds is not None and bound_s is not None and bound_s > seconds * (1 + RELATIVE):
        faults.append(f"{name} has the bound {bound_s:.9g} s above its objective of {seconds:.9g} s")
    if said is None:
        return faults
    if record.outcome == "limit" and bound_s is None:
        faults.append(f"{name} is open without a bound, and the plan claims one over all candidates")
    if bound_s is not None and bound_s < said * (1 - RELATIVE):
        faults.append(f"{name} is known to no more than {bound_s:.9g} s, and the plan claims a bound of {said:.9g} s")
    return faults
