"""Gurobi: a commercial solver of mixed-integer programs with quadratic rows, through gurobipy."""

from uniap_core.api import Form, SolverPlugin

SOLVER = SolverPlugin(
    name="gurobi",
    summary="Gurobi, commercial; small models without a licence of one's own",
    takes=Form.QUADRATIC,
    accepts=(Form.QUADRATIC, Form.MILP),
    solve="uniap_gurobi.backend:solve",
    probe="uniap_gurobi.backend:probe",
    options="uniap_gurobi.options:GurobiOptions",
    warm_start=True,
    callbacks=True,
    modules=("gurobipy",),
    install="pip install 'uniap[gurobi]'",
)
