"""torchtitan: a plan as a launch script, flags and a model configuration for stock torchtitan 0.3.0."""

from uniap_core.api import Capability, ExecutorPlugin

TORCHTITAN = "0.3.0"
"""The release whose configuration is written."""

FAMILIES = ("llama",)

EXECUTOR = ExecutorPlugin(
    name="torchtitan",
    summary=f"launch script, flags and model configuration for torchtitan {TORCHTITAN} (export only)",
    capability=Capability(
        uniform=True,
        recomputes=("none", "full"),
        schedules=("1f1b", "gpipe"),
        families=FAMILIES,
        # What FSDP2 does to parameters and gradients between micro-batches: see expressible.py.
        regimes=(
            ("micro_batches=1",),
            ("pp=1", "dp=1"),
            ("pp=1", "sharding=zero3"),
            ("pp>=2", "sharding!=zero2", "sharding!=zero3"),
        ),
    ),
    export="uniap_torchtitan.files:export",
    express="uniap_torchtitan.expressible:express",
    modules=(),
    install="pip install uniap",
)
