from uniap_core.testing import SolverSuite


class TestGurobi(SolverSuite):
    solver = "gurobi"
    bulk = 300
