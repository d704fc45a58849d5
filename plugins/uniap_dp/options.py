"""Options of the exact solver."""

from __future__ import annotations

from typing import Annotated

import msgspec

Budget = Annotated[int, msgspec.Meta(ge=0)]


class DpOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Memory budgets; past one of them the answer stays correct and its gap honest.

    Attributes
    ----------
    max_steps
        Labels that the pass over a short chain may look at before its lattice is built after all.
    max_labels
        Labels (16 bytes each) that one stage table, and the program over stages, may hold at a time.
    max_states
        Lattice states (downsets with carried strategies) beyond which a graph goes to depth-first search.
    max_nodes
        Nodes of that search beyond which the graph is ``unsupported``.
    """

    max_steps: Budget = 4_000_000
    max_labels: Budget = 16_000_000
    max_states: Budget = 200_000
    max_nodes: Budget = 20_000_000
