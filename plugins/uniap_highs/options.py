"""Options of HiGHS alone."""

from typing import Annotated, Literal

import msgspec


class HighsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What HiGHS can be told beyond a request.

    Attributes
    ----------
    presolve
        ``"on"``, ``"off"`` or ``"choose"``.
    heuristic_effort
        Share of the effort that goes into finding points, 0 to 1.
    """

    presolve: Literal["on", "off", "choose"] = "choose"
    heuristic_effort: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
