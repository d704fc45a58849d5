"""The verdict: every check with its evidence, and what to change where one fails."""

from __future__ import annotations

import msgspec


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One check: its name, whether it passed, the evidence, and the remedy if it did not."""

    name: str
    passed: bool
    evidence: str
    fix: str = ""
    data: dict[str, float | int | str] = {}


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All checks made on one subject.

    Attributes
    ----------
    subject
        Hash of the proposal that was judged; an edit makes the verdict stale.
    verifier
        Version of the verifier.
    """

    subject: str
    verifier: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True if there is at least one check and all passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)
