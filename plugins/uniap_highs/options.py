"""Options of HiGHS alone."""

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

    presolve: str = "choose"
    heuristic_effort: float = 0.05
