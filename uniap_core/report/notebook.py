"""Results that show themselves in a notebook."""

from __future__ import annotations

from dataclasses import fields
from html import escape

from ..search import Sweep
from .page import page


class ShownSweep(Sweep):
    """A sweep with a rich representation: its report in a frame, so that styles do not mix."""

    def _repr_html_(self) -> str:
        """The report of the best plan."""
        return (
            f'<iframe srcdoc="{escape(page(self.plan))}" title="plan" '
            'style="width:100%;height:42rem;border:1px solid #d0d7de"></iframe>'
        )


def shown(sweep: Sweep) -> ShownSweep:
    """The same sweep, for notebooks."""
    return ShownSweep(**{field.name: getattr(sweep, field.name) for field in fields(sweep)})
