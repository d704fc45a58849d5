"""HiGHS: an open-source MILP solver, through highspy."""

from uniap_core.api import Form, SolverPlugin

SOLVER = SolverPlugin(
    name="highs",
    summary="HiGHS, open-source MILP (MIT)",
    takes=Form.MILP,
    solve="uniap_highs.backend:solve",
    probe="uniap_highs.backend:probe",
    options="uniap_highs.options:HighsOptions",
    warm_start=True,
    callbacks=True,
    modules=("highspy",),
    install="pip install 'uniap[highs]'",
)
