from uniap_core.testing import ExecutorSuite


class TestFsdp(ExecutorSuite):
    executor = "fsdp"
