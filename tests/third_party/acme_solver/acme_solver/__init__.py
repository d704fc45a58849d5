"""Branch and bound for uniap."""

from uniap_core.api import Form, SolverPlugin

SOLVER = SolverPlugin(
    name="acme",
    summary="branch and bound over layers, in plain Python",
    takes=Form.PROBLEM,
    warm_start=True,
    callbacks=True,
    solve="acme_solver.branch:solve",
    probe="acme_solver.branch:probe",
    options="acme_solver.branch:AcmeOptions",
)
