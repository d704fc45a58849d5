"""ViT: a pre-norm encoder over patches of an image (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from uniap_core.graph import Layer, Length, ModelGraph, Operator, Saved

from . import operators as op
from .blocks import mlp, self_attention
from .checks import divides, positive

IMAGE = Length(1, 0)
"""One row per image."""


def vit(
    *,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int = 0,
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    classes: int = 1000,
    name: str = "vit",
) -> ModelGraph:
    """The graph of a vision transformer, equal to ``transformers.ViTForImageClassification``.

    Its rows are the patches and one class token, whatever the graph's ``sequence`` says.

    Parameters
    ----------
    layers, hidden, heads
        Blocks, width, attention heads.
    ffn
        Width of the MLP (0: four times ``hidden``).
    image, patch, channels, classes
        Side of the square image and of a patch (pixels), color channels, labels.

    Raises
    ------
    BadValue
        If a number is not positive, heads do not divide the width or patches the image.
    """
    ffn = ffn or 4 * hidden
    positive(name, layers=layers, hidden=hidden, heads=heads, ffn=ffn, patch=patch, image=image, classes=classes)
    divides(name, heads=heads, hidden=hidden)
    divides(name, patch=patch, image=image)
    patches = (image // patch) ** 2
    rows = Length(patches + 1, 0)
    operators = (*self_attention(hidden, heads, rows=rows), *mlp(hidden, ffn, rows=rows))
    stack = [
        embedding(hidden, patches, channels * patch**2),
        *(Layer(f"layers.{i}", "encoder", operators, f"vit.layers.{i}") for i in range(layers)),
        head(hidden, rows, classes),
    ]
    return ModelGraph(
        name=name,
        family="vit",
        sequence=patches + 1,
        layers=tuple(stack),
        edges=op.chain(stack, rows, hidden),
        architecture={
            "family": "vit",
            "layers": layers,
            "hidden": hidden,
            "heads": heads,
            "kv_heads": heads,
            "head_size": hidden // heads,
            "ffn": ffn,
            "positions": patches + 1,
            "activation": "gelu",
            "norm": "layer",
            "image": image,
            "patch": patch,
            "channels": channels,
            "classes": classes,
        },
    )


def embedding(hidden: int, patches: int, pixels: int) -> Layer:
    """Projection of patches (a convolution), class token and positions."""
    rows = Length(patches + 1, 0)
    positions = Operator(
        name="positions", kind="pointwise", rows=rows, inner=hidden, parameters=(patches + 2) * hidden, passes=5.0
    )
    operators = (op.linear("patches", pixels, hidden, rows=Length(patches, 0), bias=True), positions)
    return Layer("embedding", "patch", operators, "vit.embeddings")


def head(hidden: int, rows: Length, classes: int) -> Layer:
    """Final norm, classifier on the class token, loss. The class token keeps the normalized image alive."""
    classifier = Operator(
        name="classifier",
        kind="gemm",
        rows=IMAGE,
        inner=hidden,
        outer=classes,
        parameters=(hidden + 1) * classes,
        saved=(Saved(rows.fixed * hidden),),
    )
    loss = op.cross_entropy(classes, rows=IMAGE, upcast=False, split="none")
    return Layer("head", "head", (op.layer_norm("norm", hidden, rows), classifier, loss), "classifier")
