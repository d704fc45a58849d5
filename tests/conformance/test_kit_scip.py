from uniap_core.testing import SolverSuite


class TestScip(SolverSuite):
    solver = "scip"
    bulk = 300
