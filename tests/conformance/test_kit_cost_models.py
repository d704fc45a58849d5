from uniap_core.testing import CostModelSuite


class TestAnalytic(CostModelSuite):
    cost_model = "analytic"
