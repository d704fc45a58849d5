"""Plans of different schedules ranked by simulation, where the closed form of the best is in doubt.

The closed form of a schedule is off by some percent on uneven pipelines (docs/verifier.md), and differently so for
each: between schedules, or numbers of chunks, that can decide wrongly. So where the best plan is further from its
simulation than the tolerance of its schedule, the best ones that were found are compared by simulated time. Bounds and
proofs stay those of the closed form, and what it rules out is not solved, so not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..costs import Candidate
from ..proposal import Proposal
from ..verify.timing import in_doubt, resimulated

COMPARED = 8
"""Plans that are simulated where the best is in doubt."""


@dataclass(frozen=True)
class Ranking:
    """Numbers of proposals, best first, and what their simulation took; empty if none was in doubt."""

    order: tuple[int, ...]
    simulated_s: tuple[float, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether simulation chose another one than the closed form."""
        return bool(self.order) and self.order[0] != 0


def mixed(candidates: Iterable[Candidate]) -> bool:
    """Whether candidates are of several schedules, or of one with several numbers of chunks."""
    return len({(candidate.schedule, candidate.vpp) for candidate in candidates}) > 1


def ranked(proposals: Sequence[Proposal]) -> Ranking:
    """Rank proposals that are in the order of their closed forms.

    Where all are of one schedule with as many chunks, its closed form is much alike for each: they stay as they are.
    """
    as_they_are = tuple(range(len(proposals)))
    if not mixed(proposal.candidate for proposal in proposals):
        return Ranking(as_they_are)
    first = resimulated(proposals[0])
    if not in_doubt(proposals[0], first):
        return Ranking(as_they_are)
    seconds = (first, *map(resimulated, proposals[1:]))
    return Ranking(tuple(sorted(as_they_are, key=seconds.__getitem__)), seconds)
