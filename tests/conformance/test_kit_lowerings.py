from uniap_core.solve.plugin import Form
from uniap_core.testing import LoweringSuite


class TestJoint(LoweringSuite):
    module = "uniap_core.program.rungs.pose_joint"
    form = Form.QUADRATIC


class TestPaper(LoweringSuite):
    module = "uniap_core.program.rungs.pose_paper"
    form = Form.QUADRATIC
    pose = "paper"


class TestLinearize(LoweringSuite):
    module = "uniap_core.program.rungs.linearize"
    form = Form.MILP


class TestLinearizePaper(LoweringSuite):
    module = "uniap_core.program.rungs.linearize"
    form = Form.MILP
    pose = "paper"


class TestIntegers(LoweringSuite):
    module = "uniap_core.program.rungs.integers"
    form = Form.INTEGER
