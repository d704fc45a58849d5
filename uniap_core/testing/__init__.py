"""The conformance kit for plugin authors (extra ``testing``): built-in plugins are held to exactly this.

The whole test file of a solver plugin::

    from uniap_core.testing import SolverSuite


    class TestAcme(SolverSuite):
        solver = "acme"
"""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{suite}" for suite in ("cost_models", "executors", "lowerings", "solvers"))
)

from .cost_models import CostModelSuite  # noqa: E402
from .executors import ExecutorSuite  # noqa: E402
from .laws import LAWS, Law  # noqa: E402
from .lowerings import LoweringSuite  # noqa: E402
from .oracle import Optimum, optimum  # noqa: E402
from .problems import Limits, hard_problem, problems, random_problem  # noqa: E402
from .solvers import SolverSuite  # noqa: E402

__all__ = [
    "CostModelSuite",
    "LAWS",
    "ExecutorSuite",
    "Law",
    "Limits",
    "LoweringSuite",
    "Optimum",
    "SolverSuite",
    "hard_problem",
    "optimum",
    "problems",
    "random_problem",
]
