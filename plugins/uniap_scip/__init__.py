"""SCIP: an open-source solver of mixed-integer programs with quadratic rows, through PySCIPOpt."""

from uniap_core.api import Form, SolverPlugin

SOLVER = SolverPlugin(
    name="scip",
    summary="SCIP, open-source mixed-integer programs with quadratic rows (Apache-2.0)",
    takes=Form.QUADRATIC,
    accepts=(Form.QUADRATIC, Form.MILP),
    solve="uniap_scip.backend:solve",
    probe="uniap_scip.backend:probe",
    options="uniap_scip.options:ScipOptions",
    warm_start=True,
    callbacks=True,
    modules=("pyscipopt",),
    install="pip install 'uniap[scip]'",
)
