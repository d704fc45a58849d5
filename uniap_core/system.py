"""What the framework that a row names is known to do: padding, kernels, overlap, buffers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..models import Kernels

_MEGATRON = re.compile("megatron", re.IGNORECASE)
_NEMO = re.compile("nemo", re.IGNORECASE)
_FUSES = re.compile("transformer ?engine|oneflow|compile|triton|liger", re.IGNORECASE)
_OVERLAPS = re.compile("tp-comm-overlap", re.IGNORECASE)
_SCATTERS = re.compile("deepspeed|oneflow", re.IGNORECASE)
_DEEPSPEED = re.compile("deepspeed", re.IGNORECASE)
_SHARDS = re.compile(r"fsdp|zero-?\d|stage ?\d", re.IGNORECASE)
_OLD_FLASH = re.compile(r"\bmpt\b|llm-?foundry", re.IGNORECASE)


class Stack(NamedTuple):
    """The software of a run.

    Attributes
    ----------
    name
        As the row has it; blank if unknown.
    """

    name: str

    @property
    def megatron(self) -> bool:
        """Megatron-LM or built on it: pads vocabularies to multiples of 128 tp (``_vocab_size_with_padding``)."""
        return self.nemo or bool(_MEGATRON.search(self.name))

    @property
    def nemo(self) -> bool:
        """NeMo, which is built on Megatron-LM."""
        return bool(_NEMO.search(self.name))

    @property
    def kernels(self) -> Kernels:
        """Kernels of norms, rotary embeddings and activations; single ones if nothing is known."""
        return "fused" if not self.name or self.megatron or _FUSES.search(self.name) else "eager"

    def tensor_overlap(self, era: int) -> Literal["none", "backward", "all"]:
        """Which collectives of tensor parallelism run behind products on devices of an era (0: before Ampere).

        NeMo's recipes switch on all (``ub_tp_comm_overlap``); Megatron-LM has had those of backward there since 2022.
        PyTorch's asynchronous kernels do not count: they gain 5 % where the collectives take a quarter of the time
        (torchtitan, arXiv 2410.06511, table 4).
        """
        if self.nemo or _OVERLAPS.search(self.name):
            return "all"
        return "backward" if self.megatron and era > 0 else "none"

    @property
    def scatter_gather(self) -> bool:
        """Whether messages between stages are sent in parts."""
        return self.megatron or bool(_SCATTERS.search(self.name))

    @property
    def sharding(self) -> str:
        """What it shards if its row does not say; blank if unknown.

        What its name says, the optimizer in NeMo (its recipes train with ``distributed_fused_adam``).
        """
        if _SHARDS.search(self.name):
            return self.name
        return "distributed optimizer" if self.nemo else ""

    @property
    def buckets_bytes(self) -> float:
        """What DeepSpeed keeps under ZeRO 1 and 2.

        5e8 elements to reduce and as many to gather (its defaults ``reduce_bucket_size`` and
        ``allgather_bucket_size``), 16 bits each.
        """
        return 2 * 5e8 * 2 if _DEEPSPEED.search(self.name) else 0.0

    def flash_version(self, model: str, cluster: Cluster) -> Literal[1, 2, 3]:
        """The fused attention kernel.

        MPT's is the Triton kernel of 2022 (llm-foundry, ``attn_impl: triton``), Transformer Engine's that of cuDNN
        where it exists, PyTorch's is FlashAttention-2.
        """
        if _OLD_FLASH.search(model) or _OLD_FLASH.search(self.name):
            return 1
        late = all(node.device.generation in ("hopper", "blackwell") for node in cluster.nodes)
        return 3 if late and self.megatron else 2
