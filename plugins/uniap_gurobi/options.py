"""Options of Gurobi alone."""

from typing import Annotated

import msgspec


class GurobiOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What Gurobi can be told beyond a request.

    Attributes
    ----------
    mip_focus
        0 balanced, 1 points, 2 proof, 3 bound.
    work_limit
        Limit in Gurobi's units of work, for runs that repeat exactly; 0 is none.
    """

    mip_focus: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    work_limit: Annotated[float, msgspec.Meta(ge=0)] = 0.0
