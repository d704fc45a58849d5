"""A verdict on a terminal: what was checked, what failed, and what to change."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ..verify.verdict import Verdict


def print_verdict(verdict: Verdict, console: Console | None = None) -> None:
    """Print every check on a line of its own, failures with their remedy."""
    console = console or Console(highlight=False, emoji=False)
    for check in verdict.checks:
        mark = Text("  ok    ", style="green") if check.passed else Text("  FAIL  ", style="bold red")
        console.print(mark + Text(f"{check.name}: {check.evidence}"), soft_wrap=True)
        if not check.passed and check.fix:
            console.print(Text(f"        fix: {check.fix}"), soft_wrap=True)
    count = len(verdict.checks)
    if verdict.passed:
        console.print(Text(f"verified: all {count} checks passed", style="bold green"))
    else:
        console.print(Text(f"not verified: {len(verdict.failed)} of {count} checks failed", style="bold red"))
