"""Precision recipes by name: what each does to products, to what is kept for backward and to weights. One table.

In all of them but fp32 and tf32 activations, gradients of activations, gathers and messages are in 16 bits, and so is
attention; the narrow ones cast the operands of linear layers (but the output layer) before each product.

Sources: Transformer Engine, docs ``examples/fp8_primer`` and ``common/recipe`` (``DelayedScaling``,
``Float8CurrentScaling``, ``Float8BlockScaling``, ``MXFP8BlockScaling``, ``NVFP4BlockScaling``), and ``fp8.py``
(``check_fp8_support``, ``check_mxfp8_support``, ``check_fp8_block_scaling_support``, ``check_nvfp4_support``) for what
devices have; Megatron Core ``--fp8-recipe``, ``--fp4-recipe``; OCP Microscaling 1.0 for the size of blocks.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import BadValue


class Precision(NamedTuple):
    """What a recipe means.

    Attributes
    ----------
    figure
        Which of a device's peaks (:attr:`uniap_core.devices.Device.peak_flops`) linear layers have.
    others
        Which one all other products have (attention, the output layer).
    element_bytes
        Of an activation between operators.
    granule
        Elements in the 16 bytes that tensor cores read at a time; 1 outside tensor cores.
    cast_bytes
        Read and written beside the input of a narrow product, per element, to make its operands: of forward, and of
        the output's gradient in backward.
    input_bytes
        Of an element of a linear layer's input as it is kept for backward.
    weight_bytes
        Of the narrow copies of a linear layer's weight that stay on the device beside the 16-bit weight, for all
        micro-batches of an iteration: as it is and transposed, or row- and column-wise.
    made
        Generations of devices whose units and kernels have it; any with the figure, if empty.
    """

    figure: str
    others: str
    element_bytes: int
    granule: int
    summary: str
    cast_bytes: float = 0.0
    input_bytes: float = 0.0
    weight_bytes: float = 0.0
    made: tuple[str, ...] = ()

    @property
    def narrow(self) -> bool:
        """Whether operands of linear layers are cast to less than 16 bits."""
        return self.cast_bytes > 0


FLOAT8 = 1.0
"""Bytes of an element with a constant for its whole tensor."""

BLOCK8 = 1 + 4 / 128
"""An fp32 constant for 128 of them (DeepSeek-V3, arXiv 2412.19437, section 3.3.2)."""

MX8 = 1 + 1 / 32
"""An exponent of 8 bits for 32 of them (OCP Microscaling)."""

NV4 = 0.5 + 1 / 16
"""Four bits, an 8-bit constant for 16 of them."""

PRECISIONS = {
    "bf16": Precision("bf16", "bf16", 2, 8, "16-bit products, fp32 master weights", input_bytes=2),
    "fp16": Precision("fp16", "fp16", 2, 8, "the same with loss scaling", input_bytes=2),
    "fp32": Precision("fp32", "fp32", 4, 1, "products outside tensor cores", input_bytes=4),
    "tf32": Precision("tf32", "tf32", 4, 4, "fp32 with products of 19 bits", input_bytes=4),
    # Inputs are kept in 16 bits and weights are not copied: what was assumed of fp8 before recipes had names.
    "fp8": Precision("fp8", "bf16", 2, 8, "fp8 products by any recipe", cast_bytes=2, input_bytes=2),
    "fp8-delayed": Precision(
        "fp8", "bf16", 2, 8, "one scale a tensor, from earlier maxima", 2 * FLOAT8, FLOAT8, 2 * FLOAT8
    ),
    # Kernels that make a tensor find its maximum as well (norms and casts of Transformer Engine): no pass of its own.
    "fp8-tensorwise": Precision(
        "fp8", "bf16", 2, 8, "one scale a tensor, from its own maximum", 2 * FLOAT8, FLOAT8, 2 * FLOAT8
    ),
    "fp8-blockwise": Precision(
        "fp8",
        "bf16",
        2,
        8,
        "a scale for 128 values of an input, 128 x 128 of a weight",
        2 * BLOCK8,
        BLOCK8,
        2 * BLOCK8,
        made=("hopper", "blackwell"),
    ),
    "mxfp8": Precision("mxfp8", "bf16", 2, 8, "a scale for 32 values, in hardware", 2 * MX8, MX8, 2 * MX8),
    # The maximum is read before it is cast, as its second scale is one for the tensor.
    "nvfp4": Precision("nvfp4", "bf16", 2, 8, "four bits, a scale for 16 values", 2 + 2 * NV4, NV4, 2 * NV4),
}
"""The recipes by the name that ``--precision`` takes."""

FIGURES = ("fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4")
"""Peaks that a device may have."""


def precision(name: str) -> Precision:
    """The recipe of a name.

    Raises
    ------
    BadValue
        If there is none.
    """
    if name not in PRECISIONS:
        raise BadValue(f"there is no precision {name!r}", f"choose one of {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
