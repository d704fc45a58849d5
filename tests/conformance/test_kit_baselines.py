"""The baselines under the kit: inexact solvers whose answers are feasible, priced right and never called proven."""

from uniap_baselines import ALPA, GALVATRON, INTER_ONLY, INTRA_ONLY, UNIFORM

from uniap_core.testing import SolverSuite


class TestUniform(SolverSuite):
    solver = UNIFORM
    examples, bulk = 20, 80


class TestGalvatron(SolverSuite):
    solver = GALVATRON
    examples, bulk = 20, 80


class TestAlpa(SolverSuite):
    solver = ALPA
    examples, bulk = 20, 80


class TestInterOnly(SolverSuite):
    solver = INTER_ONLY
    examples, bulk = 20, 80


class TestIntraOnly(SolverSuite):
    solver = INTRA_ONLY
    examples, bulk = 20, 80
