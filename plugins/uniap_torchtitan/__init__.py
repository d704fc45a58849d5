"""torchtitan: a plan as a launch script, flags and a model configuration for stock torchtitan 0.3.0."""

from uniap_core.api import Capability, ExecutorPlugin

from .schedules import NAMES

TORCHTITAN = "0.3.0"
"""The release whose configuration is written."""

FAMILIES = ("llama",)

PRECISIONS = ("bf16", "fp32")
"""Those that its mixed precision has without scaled losses."""

GENERATIONS = ("volta", "turing", "ampere", "ada", "hopper", "blackwell", "cdna2", "cdna3", "cdna4")
"""Devices that it runs on."""

EXECUTOR = ExecutorPlugin(
    name="torchtitan",
    system="torchtitan",
    summary=f"launch script, flags and model configuration for torchtitan {TORCHTITAN} (export only)",
    capability=Capability(
        uniform=True,
        replicas=True,
        recomputes=("none", "full"),
        schedules=tuple(NAMES),
        families=FAMILIES,
        precisions=PRECISIONS,
        optimizers=("adamw", "adam"),
        # Its attention is FlexAttention, which Triton compiles from compute capability 7.0 on (torch/utils/_triton.py).
        generations=GENERATIONS,
        # Its context parallelism needs its spmd_types backend, which the export does not switch on.
        cp=(1,),
        ep=(1,),
        equal_nodes=True,
    ),
    fit="uniap_torchtitan.expressible:fit",
    export="uniap_torchtitan.files:export",
    express="uniap_torchtitan.expressible:express",
    modules=(),
    install="pip install uniap",
)
