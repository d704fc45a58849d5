"""The project's own exact solver: label-setting dynamic programming under certified bounds."""

from uniap_core.api import Form, SolverPlugin

SOLVER = SolverPlugin(
    name="dp",
    summary="exact dynamic program over stages with certified bounds; proven optima in milliseconds",
    takes=Form.PROBLEM,
    solve="uniap_dp.solve:solve",
    probe="uniap_dp.solve:probe",
    exact=True,
    warm_start=True,
    callbacks=True,
    inline=True,
    weights=True,
    chunks=True,
    modules=("numba", "numpy"),
    install="pip install uniap",
    options="uniap_dp.options:DpOptions",
    bound="uniap_dp.solve:lower_bound",
)
