"""The verdict: every check with its evidence, and what to change where one fails."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

VERIFIER = "uniap-verify/1"
"""Version of the verifier; raised whenever a verdict of an older one should no longer count."""


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


def conclude(
    name: str,
    faults: Sequence[str],
    evidence: str,
    fix: str,
    data: dict[str, float | int | str] | None = None,
) -> Check:
    """A check that passes if no fault was found; otherwise the first faults are its evidence.

    Parameters
    ----------
    evidence
        What a pass has shown.
    fix
        What to change if it fails.
    """
    if not faults:
        return Check(name=name, passed=True, evidence=evidence, data=data or {})
    shown = "; ".join(faults[:3])
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return Check(name=name, passed=False, evidence=shown + more, fix=fix, data=data or {})
