"""Which pipeline schedules are searched where nobody names any: for faces that must not import what searches."""

AUTO = ("1f1b", "interleaved")
"""What ``auto`` stands for: what every runtime has."""

PLAIN = "1f1b"
"""What is searched where nobody says and the solver cannot bound many candidates cheaply."""

SEARCHED = "auto"
"""What is searched where nobody says: the name of a schedule, or ``auto`` or ``any``."""
