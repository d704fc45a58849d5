"""Options of CP-SAT alone."""

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

    linearization: int = 2
    deterministic_limit: float = 0.0
