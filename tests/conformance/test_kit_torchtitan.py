from uniap_core.testing import ExecutorSuite


class TestTorchtitan(ExecutorSuite):
    executor = "torchtitan"
    model = "llama-7b"
