"""CBC: an open-source MILP solver, through PuLP (its own binary) or OR-Tools (a newer one, in the process)."""

from uniap_core.api import Form, SolverPlugin

SOLVER = SolverPlugin(
    name="cbc",
    summary="COIN-OR CBC through PuLP, open-source MILP (EPL-2.0)",
    takes=Form.MILP,
    solve="uniap_cbc.backend:solve",
    probe="uniap_cbc.backend:probe",
    options="uniap_cbc.options:CbcOptions",
    warm_start=True,
    modules=("pulp",),
    install="pip install 'uniap[cbc]'",
)
