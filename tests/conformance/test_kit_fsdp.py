from uniap_core.testing import ExecutorSuite


class TestFsdp(ExecutorSuite):
    executor = "fsdp"
    # Smaller than others are asked with: it has many schedules, and its own check builds every stage.
    model = "gpt:layers=6,hidden=768,heads=12,vocab=50257,seq=1024"
    pins = ((), ("pp=2", "layers.*:tp=2"))
