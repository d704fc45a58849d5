from uniap_core.profile import Profile
from uniap_core.testing import CostModelSuite


class TestAnalytic(CostModelSuite):
    cost_model = "analytic"


class TestProfiled(CostModelSuite):
    cost_model = "profiled"
    profile = Profile(device="A100", overlap=1.2, matmul_flops={"bf16": 2.4e14})
