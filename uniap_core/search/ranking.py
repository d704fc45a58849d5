"""Plans of different schedules ranked by simulation, where the closed form of the best is in doubt.

The closed form of a schedule is off by some percent on uneven pipelines (docs/verifier.md), and differently so for
each: between schedules, or numbers of chunks, that can decide wrongly. So where the best plan is further from its
simulation than the tolerance of its schedule, the best ones that were found are compared by simulated time; and with
them the best candidate of each schedule, then of each number of chunks, that was ruled out by a time which simulation
does not confirm. Bounds and proofs stay those of the closed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..costs import Candidate
from ..proposal import Proposal
from ..verify.timing import in_doubt, resimulated
from .attempt import Attempt

COMPARED = 8
"""Plans that are simulated where the best is in doubt."""

FURTHER = 4
"""Candidates that are solved only to be simulated."""


@dataclass(frozen=True)
class Ranking:
    """Numbers of proposals, best first, and what their simulation took; empty if none was in doubt."""

    order: tuple[int, ...]
    simulated_s: tuple[float, ...] = ()

    @classmethod
    def by(cls, seconds: Sequence[float]) -> Ranking:
        """By simulated seconds; of equals the first."""
        return cls(tuple(sorted(range(len(seconds)), key=seconds.__getitem__)), tuple(seconds))

    @property
    def changed(self) -> bool:
        """Whether simulation chose another one than the closed form."""
        return bool(self.order) and self.order[0] != 0


def mixed(candidates: Iterable[Candidate]) -> bool:
    """Whether candidates are of several schedules, or of one with several numbers of chunks."""
    return len(set(map(_kind, candidates))) > 1


def _kind(candidate: Candidate) -> tuple[str, int]:
    return candidate.schedule, candidate.vpp


def ranked(proposals: Sequence[Proposal], *, several: bool = False) -> Ranking:
    """Rank proposals that are in the order of their closed forms.

    Where all are of one schedule with as many chunks, its closed form is much alike for each: they stay as they are.

    Parameters
    ----------
    several
        Whether there are candidates of other kinds, of which nothing was found.
    """
    as_they_are = Ranking(tuple(range(len(proposals))))
    if not proposals or not (several or mixed(proposal.candidate for proposal in proposals)):
        return as_they_are
    first = resimulated(proposals[0])
    if not in_doubt(proposals[0], first):
        return as_they_are
    return Ranking.by((first, *map(resimulated, proposals[1:])))


def ranked_by(proposal: Proposal) -> float:
    """What a plan in doubt is ranked by, seconds."""
    return resimulated(proposal)


def overlooked(attempts: Sequence[Attempt], simulated: Sequence[Candidate], least_s: float) -> list[Attempt]:
    """Candidates without a plan whose bounds are below a simulated time, the best of each kind.

    First the best of each schedule that was not simulated, then of each number of chunks, the least bound first.

    Parameters
    ----------
    simulated
        Candidates whose plans were simulated: their kinds are known.
    """
    schedules, kinds = {candidate.schedule for candidate in simulated}, set(map(_kind, simulated))
    firsts: list[Attempt] = []
    others: list[Attempt] = []
    open_ones = [a for a in attempts if a.assignment is None and a.bound_s is not None and a.bound_s < least_s]
    for tried in sorted(open_ones, key=lambda one: one.bound_s or 0.0):
        candidate = tried.priced.candidate
        if _kind(candidate) not in kinds:
            (others if candidate.schedule in schedules else firsts).append(tried)
            kinds.add(_kind(candidate))
            schedules.add(candidate.schedule)
    return firsts + others
