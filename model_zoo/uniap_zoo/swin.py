"""Swin: attention in shifted windows, in stages of halved resolution and doubled width (Liu et al. 2021)."""

from __future__ import annotations

from uniap_core.errors import BadValue
from uniap_core.graph import Flow, Layer, Length, ModelGraph, Operator

from . import operators as op
from .blocks import mlp, self_attention
from .checks import divides, positive
from .vit import IMAGE


def swin(
    *,
    depths: tuple[int, ...],
    width: int,
    heads: tuple[int, ...],
    ffn_ratio: int = 4,
    window: int = 7,
    image: int = 224,
    patch: int = 4,
    channels: int = 3,
    classes: int = 1000,
    name: str = "swin",
) -> ModelGraph:
    """The graph of a Swin transformer, equal to ``transformers.SwinForImageClassification``.

    Patch merging between two stages is a node of its own.

    Parameters
    ----------
    depths, heads
        Blocks and attention heads of each stage.
    width
        Width of the first stage; each further stage doubles it.
    ffn_ratio
        Width of an MLP over the width of its stage.
    window, image, patch
        Sides of a window (patches), of the square image and of a patch (pixels).
    channels, classes
        Color channels and labels.

    Raises
    ------
    BadValue
        If a number is not positive, stages do not match, or windows do not tile the image at every stage.
    """
    positive(name, width=width, ffn_ratio=ffn_ratio, window=window, image=image, patch=patch, classes=classes)
    positive(name, depths=min(depths, default=0), heads=min(heads, default=0))
    if len(depths) != len(heads):
        raise BadValue(f"{name}: {len(depths)} depths and {len(heads)} heads", "give one of each per stage")
    divides(name, patch=patch, image=image)
    side = image // patch
    stack = [embedding(width, side, channels * patch**2)]
    edges: list[Flow] = []
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        if stage:
            divides(name, merge=2, side=side)
            append(stack, edges, merge(stage - 1, width, side), side, width)
            side, width = side // 2, 2 * width
        divides(name, window=window, side=side)
        divides(name, heads=count, width=width)
        for i in range(depth):
            append(stack, edges, block(stage, i, width, count, ffn_ratio * width, side, window), side, width)
    append(stack, edges, head(width, side, classes), side, width)
    return ModelGraph(
        name=name,
        family="swin",
        sequence=(image // patch) ** 2,
        layers=tuple(stack),
        edges=tuple(edges),
        architecture={
            "family": "swin",
            "layers": sum(depths),
            "depths": "/".join(map(str, depths)),
            "hidden": width >> (len(depths) - 1),
            "stage_heads": "/".join(map(str, heads)),
            "ffn_ratio": ffn_ratio,
            "window": window,
            "activation": "gelu",
            "norm": "layer",
            "image": image,
            "patch": patch,
            "channels": channels,
            "classes": classes,
        },
    )


def append(stack: list[Layer], edges: list[Flow], layer: Layer, side: int, width: int) -> None:
    """Append a layer whose input has side x side rows of a width."""
    before = stack[-1].name
    edges.append(Flow(before, layer.name, f"{before}.out", Length(side**2, 0), width))
    stack.append(layer)


def embedding(width: int, side: int, pixels: int) -> Layer:
    """Projection of patches (a convolution) and norm."""
    rows = Length(side**2, 0)
    operators = (
        op.linear("patches", pixels, width, rows=rows, bias=True),
        op.layer_norm("norm", width, rows, selective=False),
    )
    return Layer("embedding", "patch", operators, "swin.embeddings")


def block(stage: int, index: int, width: int, heads: int, ffn: int, side: int, window: int) -> Layer:
    """A block with attention in windows, shifted in every second block unless one window is all there is.

    A shifted block adds its mask to the position bias, which makes a tensor per window that backward needs.
    """
    rows, area = Length(side**2, 0), window**2
    shifted = index % 2 == 1 and side > window
    attention = self_attention(
        width,
        heads,
        rows=rows,
        keys=Length(area, 0),
        parameters=heads * (2 * window - 1) ** 2,
        bias_width=heads * area if shifted else 0,
    )
    # Cutting into windows and putting back is a copy each way, as is shifting there and back.
    windows = Operator(name="windows", kind="pointwise", rows=rows, inner=width, passes=8.0 if shifted else 4.0)
    operators = (attention[0], windows, *attention[1:], *mlp(width, ffn, rows=rows))
    return Layer(f"stages.{stage}.layers.{index}", "encoder", operators, f"swin.encoder.layers.{stage}.blocks.{index}")


def merge(stage: int, width: int, side: int) -> Layer:
    """Patch merging: four neighbors side by side, norm, projection to twice the width."""
    rows = Length((side // 2) ** 2, 0)
    operators = (
        Operator(name="gather", kind="pointwise", rows=rows, inner=4 * width),
        op.layer_norm("norm", 4 * width, rows),
        op.linear("reduction", 4 * width, 2 * width, rows=rows),
    )
    return Layer(f"stages.{stage}.merge", "merge", operators, f"swin.encoder.layers.{stage}.downsample")


def head(width: int, side: int, classes: int) -> Layer:
    """Final norm, mean over the image, classifier, loss."""
    rows = Length(side**2, 0)
    operators = (
        op.layer_norm("norm", width, rows),
        Operator(name="pool", kind="pointwise", rows=rows, inner=width, passes=1.0),
        op.linear("classifier", width, classes, rows=IMAGE, bias=True),
        op.cross_entropy(classes, rows=IMAGE, upcast=False, split="none"),
    )
    return Layer("head", "head", operators, "classifier")
