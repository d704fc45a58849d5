from uniap_core.testing import ExecutorSuite


class TestMegatron(ExecutorSuite):
    executor = "megatron"
    beyond = ("sharding=zero3",)
