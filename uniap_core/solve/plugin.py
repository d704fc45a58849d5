"""The contract of a solver plugin: a descriptor of plain data, and two functions named by strings.

The descriptor is importable without the solver library, so listing plugins loads nothing heavy. A plugin's
entry point (group ``uniap.solvers``) points at its :class:`SolverPlugin`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..problem import Problem, plain_weights
from ..program.form import Form

__all__ = ["Form", "SolverPlugin"]


@dataclass(frozen=True, kw_only=True)
class SolverPlugin:
    """What a solver is and where its functions are.

    Attributes
    ----------
    name
        The name users type.
    takes
        The form it solves natively; it may also be given a lower one (``accepts``).
    accepts
        All forms that ``solve`` understands; empty means only ``takes``.
    exact
        Whether ``optimal`` is a proof. Baselines are inexact.
    weights
        Whether it reads ``problem.objective``; else it is given problems with UniAP's weights ``(1, 1, c - 1)`` alone.
    chunks
        Whether it reads ``problem.chunks``; else it is given problems with chunk i on rank i alone. Both are asked of
        plugins that take the problem itself: a program says all of it.
    warm_start, callbacks
        Whether a start is used, and whether incumbents are reported while it runs.
    inline
        True if it may run in the caller's process (the project's own solver); others get a worker.
    modules
        Import names it needs, found without importing.
    install
        The command that installs them.
    bound
        ``module:function`` of a cheap certified bound, ``lower_bound(problem) -> float`` (``inf`` if infeasible),
        or empty.
    solve, probe, options
        ``module:attribute`` strings, resolved late. ``solve(program, request, emit) -> RawResult``;
        ``probe() -> str`` says version and licence, or raises; ``options`` is a msgspec struct, or empty.
    """

    name: str
    summary: str
    takes: Form
    solve: str
    probe: str
    accepts: tuple[Form, ...] = ()
    exact: bool = True
    weights: bool = False
    chunks: bool = False
    warm_start: bool = False
    callbacks: bool = False
    inline: bool = False
    modules: tuple[str, ...] = ()
    install: str = ""
    options: str = ""
    bound: str = ""

    @property
    def forms(self) -> tuple[Form, ...]:
        """Every form it understands, the native one first."""
        return self.accepts or (self.takes,)

    def refusal(self, problem: Problem, form: Form) -> str:
        """Why it cannot be given a problem in a form; empty if it can."""
        if form is not Form.PROBLEM:
            return ""
        if not (self.chunks or problem.plain_placement):
            return f"{self.name} knows one chunk per pipeline rank, in order, and this problem has other chunks"
        if not (self.weights or problem.objective == plain_weights(problem.micro_batches)):
            w = problem.objective
            return f"{self.name} knows the weights 1, 1, c - 1 and this problem has {w.sum:g}, {w.cross:g}, {w.peak:g}"
        return ""
