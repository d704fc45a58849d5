"""Every built-in solver is held to the kit that other people's solvers are held to."""

from uniap_core.testing import SolverSuite


class TestDp(SolverSuite):
    solver = "dp"


class TestHighs(SolverSuite):
    solver = "highs"


class TestScip(SolverSuite):
    solver = "scip"


class TestCbc(SolverSuite):
    solver = "cbc"


class TestCpsat(SolverSuite):
    solver = "cpsat"


class TestGurobi(SolverSuite):
    solver = "gurobi"
