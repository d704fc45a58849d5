"""Options of CBC alone."""

from typing import Annotated, Literal

import msgspec


class CbcOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What CBC can be told beyond a request.

    Attributes
    ----------
    library
        ``"pulp"``: the binary that PuLP brings (2.10.3). ``"ortools"``: the newer one inside OR-Tools (2.10.12).
    nodes
        Limit of branch-and-bound nodes, for runs that repeat exactly; 0 is none. Only with ``"pulp"``.
    """

    library: Literal["pulp", "ortools"] = "pulp"
    nodes: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0

    def __post_init__(self) -> None:
        if self.nodes and self.library != "pulp":
            raise ValueError('nodes is a limit of library "pulp" alone - at `$.nodes`')
