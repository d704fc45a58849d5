from uniap_core.testing import SolverSuite


class Baseline(SolverSuite):
    __test__ = False
    examples = 20
    bulk = 100


class TestUniform(Baseline):
    __test__ = True
    solver = "uniform"


class TestGalvatron(Baseline):
    __test__ = True
    solver = "galvatron"


class TestAlpa(Baseline):
    __test__ = True
    solver = "alpa"


class TestInterOnly(Baseline):
    __test__ = True
    solver = "inter-only"


class TestIntraOnly(Baseline):
    __test__ = True
    solver = "intra-only"
