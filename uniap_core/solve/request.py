"""What is asked of a solver, besides the problem."""

from __future__ import annotations

import msgspec

from ..problem import Assignment


class SolveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Limits, tolerances and hints for one solve; plugins must honour every field or declare that they cannot.

    Attributes
    ----------
    time_limit_s
        Wall seconds for building and solving; ``None`` is no limit. Honoured to within 2 s.
    gap
        Relative gap at which the answer may be called optimal.
    threads, seed
        For reproducible comparison.
    memory_limit_bytes
        Cap on the worker process.
    cutoff_s
        Only an assignment with an objective strictly below this is of interest. A solver that proves that there
        is none returns ``infeasible`` with ``bound_s`` equal to the cutoff.
    warm_start
        A feasible assignment to start from.
    log_path
        Where the solver's own log goes; ``None`` drops it.
    options
        Options of one solver alone, decoded strictly by that plugin's ``options`` type.
    """

    time_limit_s: float | None = None
    gap: float = 1e-9
    threads: int = 1
    seed: int = 0
    memory_limit_bytes: int | None = None
    cutoff_s: float | None = None
    warm_start: Assignment | None = None
    log_path: str | None = None
    options: dict[str, bool | int | float | str] = {}
