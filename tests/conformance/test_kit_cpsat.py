from uniap_core.testing import SolverSuite


class TestCpsat(SolverSuite):
    solver = "cpsat"
    bulk = 300
