"""Executor on stock torch: pipelining, DTensor tensor parallelism, FSDP2 and distributed checkpoints.

Importing this package imports no torch; :func:`uniap_fsdp.parallelize` is the library face for people with a
training loop of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uniap_core.api import Capability, ExecutorPlugin

from .check import OPTIMIZERS, PRECISIONS
from .schedules import SCHEDULES

if TYPE_CHECKING:
    from .parallel import parallelize

EXECUTOR = ExecutorPlugin(
    name="fsdp",
    system="PyTorch FSDP2",
    summary="stock torch: a strategy per layer, free cuts, torch's schedules, ZeRO 0 to 3, recompute, checkpoints",
    # Mixed precision with scaled losses (fp16) is not done here, and neither are context and expert parallelism.
    capability=Capability(
        precisions=PRECISIONS, optimizers=OPTIMIZERS, schedules=SCHEDULES, cp=(1,), ep=(1,), frozen=True
    ),
    layout="uniap_fsdp.dry:layout",
    launch="uniap_fsdp.launch:launch",
    export="uniap_fsdp.script:export",
    express="uniap_fsdp.fit:express",
    fit="uniap_fsdp.fit:fit",
    modules=("torch",),
    install="pip install 'uniap[torch]'",
)

__all__ = ["EXECUTOR", "parallelize"]


def __getattr__(name: str) -> Any:
    if name == "parallelize":
        from .parallel import parallelize

        return parallelize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
