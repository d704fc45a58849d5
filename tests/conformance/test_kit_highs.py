from uniap_core.testing import SolverSuite


class TestHighs(SolverSuite):
    solver = "highs"
    bulk = 300
