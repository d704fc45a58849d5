from uniap_core.testing import SolverSuite


class TestDp(SolverSuite):
    solver = "dp"
    bulk = 300
