"""Options of CP-SAT alone."""

from typing import Annotated

import msgspec


class CpSatOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What CP-SAT can be told beyond a request.

    Attributes
    ----------
    linearization
        How much of the model its linear relaxation holds, 0 to 2.
    deterministic_limit
        Limit in CP-SAT's deterministic time, for runs that repeat exactly; 0 is none.
    """

    linearization: Annotated[int, msgspec.Meta(ge=0, le=2)] = 2
    deterministic_limit: Annotated[float, msgspec.Meta(ge=0)] = 0.0
