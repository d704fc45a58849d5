"""What the software of a run is known to do: padding, kernels, overlap, buffers. Plans and estimates ask it alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from .costs import Training
from .errors import UnknownName

if TYPE_CHECKING:
    from .cluster import Cluster
    from .models import Kernels

Attention = Literal["eager", "fused"]
ERAS = {"pascal": 0, "volta": 0, "turing": 0, "ampere": 1}
"""Generations of devices by what was written for them: before Ampere (0), on it, and after it (2)."""

DEFAULT = "PyTorch with eager kernels and fused attention"
"""What is assumed where nothing is named."""

LONG = 4096
"""Longer sequences were never trained without fused attention."""

PADDED = 128
"""Megatron-LM pads vocabularies to a multiple of so much on every tensor-parallel rank."""

_MEGATRON = re.compile("megatron", re.IGNORECASE)
_NEMO = re.compile("nemo", re.IGNORECASE)
_FUSES = re.compile("transformer ?engine|oneflow|compile|triton|liger", re.IGNORECASE)
_OVERLAPS = re.compile("tp-comm-overlap", re.IGNORECASE)
_SCATTERS = re.compile("deepspeed|oneflow", re.IGNORECASE)
_DEEPSPEED = re.compile("deepspeed", re.IGNORECASE)
_SHARDS = re.compile(r"fsdp|zero-?\d|stage ?\d", re.IGNORECASE)
_OLD_FLASH = re.compile(r"\bmpt\b|llm-?foundry", re.IGNORECASE)
_CORE = re.compile(r"megatron[- ]?core|mcore", re.IGNORECASE)
_TORCH = re.compile(r"fsdp|torchtitan|pytorch|automodel", re.IGNORECASE)
_OTHERS = re.compile(
    r"transformers|accelerate|trl|mosaic|paxml|jax|internevo|primus|swift|hugging ?face", re.IGNORECASE
)


class Stack(NamedTuple):
    """The software of a run.

    Attributes
    ----------
    name
        As the row or the option has it; blank if unknown.
    """

    name: str

    def check(self) -> None:
        """Refuse a name that means no software known here.

        Raises
        ------
        UnknownName
            Naming what is known.
        """
        every = (_MEGATRON, _NEMO, _FUSES, _OVERLAPS, _SCATTERS, _SHARDS, _OLD_FLASH, _CORE, _TORCH, _OTHERS)
        if not any(pattern.search(self.name) for pattern in every):
            known = "Megatron-LM, Megatron Core, NeMo, DeepSpeed, FSDP, torchtitan, torch.compile, llm-foundry"
            raise UnknownName(f"no software is known by the name {self.name!r}", f"known: {known}")

    @property
    def torch(self) -> bool:
        """PyTorch itself (also where nothing is known), whose attention is fused on every device in every precision."""
        return not self.name or (bool(_TORCH.search(self.name)) and not self.megatron)

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
        """Kernels of norms, rotary embeddings and activations; those of eager PyTorch if nothing is known."""
        return "fused" if self.megatron or _FUSES.search(self.name) else "eager"

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
        """Whether messages between stages are sent in parts; Megatron Core sends them whole."""
        return (self.megatron and not _CORE.search(self.name)) or bool(_SCATTERS.search(self.name))

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

    def fuses_attention(self, era: int, precision: str, sequence: int, *, older: bool = False) -> bool:
        """Whether attention is a fused kernel: PyTorch's always is.

        That of Megatron-LM and others takes 16-bit operands, never came before Ampere but for long sequences, always
        after it, and on it unless the recipe is an ``older`` one or in fp16.
        """
        if self.torch:
            return True
        modern = era >= 2 or (era == 1 and precision != "fp16" and not older) or sequence > LONG
        return modern and precision not in ("fp32", "tf32")

    def flash_version(self, cluster: Cluster) -> Literal[1, 2, 3]:
        """The fused attention kernel.

        MPT's is the Triton kernel of 2022 (llm-foundry, ``attn_impl: triton``), Transformer Engine's that of cuDNN
        where it exists, PyTorch's is FlashAttention-2.
        """
        if _OLD_FLASH.search(self.name):
            return 1
        late = all(node.device.generation in ("hopper", "blackwell") for node in cluster.nodes)
        return 3 if late and self.megatron else 2


def era_of(cluster: Cluster) -> int:
    """The era (:data:`ERAS`) of a cluster's oldest devices."""
    return min(ERAS.get(node.device.generation, 3) for node in cluster.nodes)


def training_of(
    stack: Stack,
    cluster: Cluster,
    family: str,
    sequence: int,
    *,
    batch: int,
    precision: str,
    attention: Attention | None = None,
    older: bool = False,
) -> Training:
    """What is trained how by some software, for plans and estimates alike.

    Parameters
    ----------
    family, sequence
        Of the model.
    batch
        Samples per iteration.
    attention
        The kernel of attention where it is chosen; ``None``: what the software does.
    older
        Whether the recipe is of the time before fused attention.
    """
    usual = stack.fuses_attention(era_of(cluster), precision, sequence, older=older)
    fused = usual if attention is None else attention == "fused"
    return Training(
        global_batch=batch,
        precision=precision,
        flash_attention=fused,
        flash_version=stack.flash_version(cluster),
        tensor_overlap=stack.tensor_overlap(era_of(cluster)),
        scatter_gather=stack.scatter_gather,
        # Mixed-precision recipes of the time before fused attention had dropout.
        dropout=not usual and precision in ("fp16", "bf16") and family != "llama",
        system=stack.name,
        vocabulary_multiple=PADDED if stack.megatron else 1,
        buckets_bytes=stack.buckets_bytes,
    )
