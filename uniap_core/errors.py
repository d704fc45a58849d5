"""Every way uniap can say no, on one screen: code, cause, remedy.

An error is a sentence for a person: what is wrong, where, and what to do next. The command line prints it
without a traceback and exits with ``exit_code``:

====  =======================================================
code  meaning
====  =======================================================
1     the answer is "no" (infeasible, verification failed)
2     bad input or usage
3     a component (plugin, solver, executor) failed
====  =======================================================
"""

from __future__ import annotations

from typing import ClassVar


class UniapError(Exception):
    """Base of all errors that uniap raises on purpose.

    Parameters
    ----------
    cause
        What is wrong, naming the thing at fault.
    fix
        What the reader can do about it.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 2

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}\n  fix: {self.fix}" if self.fix else self.cause

    def __reduce__(self) -> tuple[type[UniapError], tuple[str, str]]:
        return type(self), (self.cause, self.fix)

    def as_dict(self) -> dict[str, str]:
        """The error as the ``--json`` document of a failed command."""
        return {"error": self.code, "cause": self.cause, "fix": self.fix}


class UsageError(UniapError):
    """A command or a function was called with arguments that make no sense."""

    code = "usage"


class UnknownName(UniapError):
    """A model, cluster, plugin or strategy of that name does not exist."""

    code = "unknown-name"


class BadFile(UniapError):
    """A file is missing, truncated, of another schema, or has a bad field."""

    code = "bad-file"


class BadValue(UniapError):
    """A value is out of range: negative time, NaN, cyclic graph, indivisible batch."""

    code = "bad-value"


class Infeasible(UniapError):
    """No plan satisfies the constraints; the cause names the binding one."""

    code = "infeasible"
    exit_code = 1


class Unverified(UniapError):
    """A plan's verdict is missing, failed, stale or edited: it may not reach a device."""

    code = "unverified"
    exit_code = 1


class Inexpressible(UniapError):
    """A plan cannot be run by the executor or runtime that was asked for."""

    code = "inexpressible"
    exit_code = 1


class NotEnoughTime(UniapError):
    """A time limit or an interrupt came before any plan was found."""

    code = "no-plan-in-time"
    exit_code = 1


class Stopped(NotEnoughTime):
    """An interrupt (Ctrl-C, SIGTERM, SIGHUP) came before there was anything to deliver."""

    code = "interrupted"
    exit_code = 130


class PluginError(UniapError):
    """A plugin is not installed, does not load, or its descriptor is malformed."""

    code = "plugin"
    exit_code = 3


class SolverFailed(UniapError):
    """A solver crashed, hung past its deadline, or ran out of memory."""

    code = "solver-failed"
    exit_code = 3


class SolverLied(SolverFailed):
    """A solver's claim (feasible, optimal, bound) does not survive the driver's check."""

    code = "solver-lied"


class InfeasibleAnswer(SolverLied):
    """A solver's assignment violates a constraint of the problem."""

    code = "solver-lied-feasible"


class WrongObjective(SolverLied):
    """A solver's assignment costs more than the solver says."""

    code = "solver-lied-objective"


class WrongBound(SolverLied):
    """A solver's lower bound is above the objective of a feasible assignment."""

    code = "solver-lied-bound"


class UnprovenOptimum(SolverLied):
    """A solver says "optimal" and its bound leaves a gap, or it has no assignment, or it is not an exact solver."""

    code = "solver-lied-optimal"


class FalseInfeasible(SolverLied):
    """A solver says "infeasible" of a problem with a known feasible assignment."""

    code = "solver-lied-infeasible"


class MalformedAnswer(SolverFailed):
    """A solver's answer is not a ``RawResult``, or has the wrong length or type inside."""

    code = "solver-malformed"


class SolverCrashed(SolverFailed):
    """A solver raised an error or its process died."""

    code = "solver-crashed"


class SolverHung(SolverFailed):
    """A solver did not stop at its time limit and was killed."""

    code = "solver-hung"


class SolverOutOfMemory(SolverFailed):
    """A solver's process met its memory cap or was killed by the system for memory."""

    code = "solver-out-of-memory"


class Disagreement(UniapError):
    """Two exact solvers prove different optima of one problem: one of them is wrong."""

    code = "disagreement"
    exit_code = 3


class Defect(UniapError):
    """uniap itself went wrong: what would be a traceback."""

    code = "defect"
    exit_code = 3

    @classmethod
    def of(cls, error: BaseException) -> Defect:
        """The error as a sentence, with the place it comes from."""
        place, trace = "", error.__traceback__
        while trace is not None:
            place, trace = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}", trace.tb_next
        words = str(error).strip().splitlines() or [""]
        return cls(
            f"uniap failed: {type(error).__name__}: {words[0][:300]} [{place}]",
            "please report it, with what UNIAP_TRACEBACK=1 shows",
        )


class LaunchFailed(UniapError):
    """An executor could not start, or a rank died while running."""

    code = "launch-failed"
    exit_code = 3
