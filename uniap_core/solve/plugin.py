"""The contract of a solver plugin: a descriptor of plain data, and two functions named by strings.

The descriptor is importable without the solver library, so listing plugins loads nothing heavy. A plugin's
entry point (group ``uniap.solvers``) points at its :class:`SolverPlugin`.
"""

from __future__ import annotations

from dataclasses import dataclass

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
