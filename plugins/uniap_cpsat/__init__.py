"""CP-SAT: the constraint programming solver of OR-Tools, over integers."""

from uniap_core.api import Form, SolverPlugin

SOLVER = SolverPlugin(
    name="cpsat",
    summary="CP-SAT of OR-Tools, constraint programming over integers (Apache-2.0)",
    takes=Form.INTEGER,
    solve="uniap_cpsat.backend:solve",
    probe="uniap_cpsat.backend:probe",
    options="uniap_cpsat.options:CpSatOptions",
    warm_start=True,
    callbacks=True,
    modules=("ortools",),
    install="pip install 'uniap[cpsat]'",
)
