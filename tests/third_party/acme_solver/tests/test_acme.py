from uniap_core.testing import SolverSuite


class TestAcme(SolverSuite):
    solver = "acme"
