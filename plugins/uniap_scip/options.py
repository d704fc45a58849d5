"""Options of SCIP alone."""

from typing import Annotated, Literal

import msgspec


class ScipOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What SCIP can be told beyond a request.

    Attributes
    ----------
    emphasis
        A preset of SCIP's parameters.
    factor_terms
        From how many products of one column on they are linearized together (quadratic form only).
    nodes
        Limit of branch-and-bound nodes, for runs that repeat exactly; -1 is none.
    """

    emphasis: Literal["default", "optimality", "feasibility", "easycip", "numerics"] = "default"
    factor_terms: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 2
    nodes: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)] = -1
