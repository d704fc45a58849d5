from uniap_core.testing import SolverSuite


class TestCbc(SolverSuite):
    solver = "cbc"
    bulk = 300
