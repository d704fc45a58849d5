"""Megatron-LM: a plan as a launch script and an arguments file for stock Megatron-LM core_v0.16.1."""

from uniap_core.api import Capability, ExecutorPlugin

MEGATRON = "core_v0.16.1"
"""The tag of NVIDIA/Megatron-LM whose arguments are written."""

FAMILIES = ("llama", "gpt", "bert", "mixtral")

NARROW = {
    "fp8": {"fp8-format": "hybrid"},
    "fp8-delayed": {"fp8-format": "hybrid", "fp8-recipe": "delayed"},
    "fp8-tensorwise": {"fp8-format": "hybrid", "fp8-recipe": "tensorwise"},
    "fp8-blockwise": {"fp8-format": "e4m3", "fp8-recipe": "blockwise"},
    "mxfp8": {"fp8-format": "e4m3", "fp8-recipe": "mxfp8"},
    "nvfp4": {"fp4-format": "e2m1", "fp4-recipe": "nvfp4"},
}
"""Switches beside ``--bf16`` of the recipes of less than 16 bits (formats as in Megatron Bridge's recipes of them)."""

PRECISIONS = ("fp32", "bf16", "fp16", *NARROW)
"""Those that it has a switch for."""

EXECUTOR = ExecutorPlugin(
    name="megatron",
    system="Megatron Core",
    summary=f"launch script and arguments for stock Megatron-LM {MEGATRON} (export only)",
    capability=Capability(
        uniform=True,
        shardings=("none", "zero1"),
        modules=("mla_up", "shared_experts", "mlp", "moe"),
        replicas=True,
        # Its selective recomputation drops less than a plan's: see docs/export.md.
        recomputes=("none", "full"),
        schedules=("1f1b", "interleaved"),
        families=FAMILIES,
        precisions=PRECISIONS,
        equal_nodes=True,
    ),
    layout="uniap_megatron.ranks:layout",
    export="uniap_megatron.files:export",
    fit="uniap_megatron.expressible:fit",
    express="uniap_megatron.expressible:express",
    modules=(),
    install="pip install uniap",
)
