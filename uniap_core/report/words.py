"""What a report says in words: where the time of an iteration goes, and what the proof is of."""

from __future__ import annotations

from msgspec import UNSET

from ..costs import MARGIN, Training
from ..menus import extents
from ..proposal import CandidateProof, Proposal
from ..strategy import AXES

USUAL = {"optimizer": "adamw", "states": "mixed", "loss": "whole", "imbalance": "1", "margin": f"{MARGIN:g}"}
"""What a training keeps where nothing is said."""


CLOSE = 0.005 * (1 + 1e-6)
"""A gap that sweeps over many candidates with chunks leave on purpose: they are not told apart more finely."""


def unusual(training: Training) -> dict[str, str]:
    """What of a training differs from :data:`USUAL`, by option of ``uniap plan``."""
    return {name: value for name, usual in USUAL.items() if (value := said(training, name)) != usual}


def said(training: Training, name: str) -> str:
    """A field of a training as its option takes it."""
    value = getattr(training, name)
    return f"{value:g}" if isinstance(value, float) else str(value)


def time_shares(proposal: Proposal) -> dict[str, float]:
    """Share of the iteration by cause, summing to 1; ``idle`` is the bubble with the transfers in it.

    Parts with no share are left out.
    """
    c, seconds = proposal.micro_batches, proposal.predicted.iteration_time_s
    span = seconds * proposal.pp
    shares: dict[str, float] = {}
    for stage in proposal.stages:
        for name, part in stage.time_parts_s.items():
            shares[name] = shares.get(name, 0.0) + c * part / span
    shares["idle"] = max(0.0, 1.0 - sum(shares.values()))
    return {name: share for name, share in shares.items() if share > 0}


def axes_searched(plan: Proposal) -> str:
    """The axes on which the layers of a plan may choose, in words."""
    space, size, node = plan.space, plan.cluster.devices, plan.cluster.node_size
    every = {s for extent in set(extents(plan.model, space)) for s in space.strategies(size, node, extent)}
    chosen = (axis for axis in AXES if axis.kind != "switch" and (axis.name != "etp" or any(s.folded for s in every)))
    free = [axis.name for axis in chosen if len({s[axis.name] for s in every}) > 1]
    return f"{', '.join(free)} of {'all layers together' if space.uniform else 'each layer'}" if free else ""


def proof_line(proof: tuple[CandidateProof, ...], bound_s: float | None, objective_s: float, axes: str = "") -> str:
    """The proof of a sweep in one sentence; ``axes`` as :func:`axes_searched` says them."""
    words = {
        "solved": "solved",
        "pruned": "pruned by bound",
        "infeasible": "infeasible",
        "impossible": "impossible",
        "limit": "open",
    }
    counts = {outcome: sum(record.outcome == outcome for record in proof) for outcome in words}
    parts = ", ".join(f"{count} {words[outcome]}" for outcome, count in counts.items() if count)
    said = [(r.strategies, r.dominated) for r in proof if r.strategies is not UNSET and r.dominated is not UNSET]
    if said:
        parts += f"; {sum(d for _, d in said):,} of {sum(n for n, _ in said):,} strategies dominated"
    total = f"{len(proof)} candidate{'s' * (len(proof) != 1)}"
    schedules = dict.fromkeys(record.schedule for record in proof)
    if len(schedules) > 1:
        total += f" of {', '.join(schedules)}"
    total += f" and {axes}" if axes else ""
    least = min((record.objective_s for record in proof if record.objective_s is not None), default=objective_s)
    if least < objective_s * (1 - 1e-6):
        which = "best found" if counts["limit"] else "optimum"
        return (
            f"best by simulation, {objective_s / least - 1:.2%} from the {which} of the formula over {total}: {parts}"
        )
    if not counts["limit"]:
        return f"optimal over {total}: {parts}"
    gap = None if bound_s is None else max(0.0, 1 - bound_s / objective_s)
    if gap is not None and gap <= CLOSE:
        return f"optimal within {gap:.2%} over {total}: {parts}"
    known = "" if gap is None else f" within {gap:.2%} of the optimum,"
    return f"best found,{known} {total}: {parts}"
