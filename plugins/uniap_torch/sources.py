"""Where a torch model comes from: a Hugging Face config or a factory, built on the meta device."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uniap_core.api import BadFile, BadValue, PluginError, UnknownName, allow_source

from . import decoders
from .example_inputs import Examples

if TYPE_CHECKING:
    from torch import nn

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a forward call."""

LONGEST = 2048
"""Default sequence of models that allow more."""

FAMILIES = {"llama": "llama", "gpt2": "gpt", "bert": "bert", "t5": "t5", "vit": "vit", "swin": "swin"} | {
    "mixtral": "mixtral"
}
"""Hugging Face model types that are families of the zoo."""

HEADS = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForImageClassification",
    "AutoModel",
)
"""Which head a model gets that its config does not name, first match."""


@dataclass(frozen=True)
class Source:
    """A model on the meta device, and how to call it.

    Attributes
    ----------
    inputs
        Makes the arguments of a forward call for a batch and a sequence length.
    sequence
        Positions per sample to plan at.
    has_sequence
        Whether inputs change with the sequence length.
    plan
        The model's own tensor-parallel plan: module pattern to style.
    otherwise
        What else can be traced if this does not run.
    """

    name: str
    text: str
    module: nn.Module
    inputs: Callable[[int, int], Inputs]
    sequence: int
    has_sequence: bool
    family: str = "traced"
    architecture: dict[str, int | float | str | bool] = field(default_factory=dict)
    plan: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = ""


def load(text: str, sequence: int | None = None) -> Source:
    """Build the model that ``hf:DIR_OR_JSON`` or ``package.module:factory`` names.

    Raises
    ------
    BadFile, BadValue, UnknownName, PluginError
        If it cannot be found, read, built or called; with the cause.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "hf":
        return hugging_face(rest, sequence)
    if colon:
        return factory(text, sequence)
    raise BadValue(f"{text!r} names no torch model", "write hf:DIR_OR_CONFIG.json or package.module:factory")


def factory(text: str, sequence: int | None) -> Source:
    """A function that returns ``(module, example_inputs)``.

    It may take ``batch`` and ``sequence``; then activations are told apart from what does not grow with them.
    Without ``batch``, the first dimension of every example tensor is taken for the batch and repeated. Example
    inputs are a tensor, a tuple of arguments or a dict of keyword arguments.
    """
    import torch

    make = _attribute(text)
    allow_source(text)  # who asks for it here typed it; files are checked before they get here
    takes = set(inspect.signature(make).parameters)
    chosen = sequence or 128

    def call(batch: int, length: int) -> tuple[Any, Any]:
        sizes = {"batch": batch, "sequence": length}
        made = make(**{key: value for key, value in sizes.items() if key in takes})
        if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], torch.nn.Module):
            raise BadValue(f"{text} returned {type(made).__name__}", "return (module, example_inputs)")
        return made

    def inputs(batch: int, length: int) -> Inputs:
        with torch.device("meta"):
            example = call(batch, length)[1]
        arguments = _arguments(example)
        return arguments if "batch" in takes else _repeat(arguments, batch)

    with torch.device("meta"):
        module = call(1, chosen)[0]
    if sequence is not None and "sequence" not in takes:
        raise BadValue(
            f"{text} does not take a sequence", "give the factory a parameter named sequence, or leave it out"
        )
    return Source(text.rpartition(":")[2], text, module, inputs, chosen, "sequence" in takes)


def hugging_face(path: str, sequence: int | None) -> Source:
    """A Hugging Face model from its config alone: no weights, no download, no remote code."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise PluginError(f"hf: needs {error.name}", "pip install 'uniap[torch,hf]'") from None
    config = read_config(path)
    with torch.device("meta"), advice_off():
        build = _model_class(config)
        try:
            module = build(config)
        except Exception as error:  # whatever the model's own code raises for values it does not like
            kernel = getattr(config, "_attn_implementation", None)
            if kernel and "attention" in str(error).lower():
                raise BadValue(
                    f"{path}: attn_implementation {kernel!r} of the config does not build here: {_reason(error)}",
                    "leave attn_implementation out of the config (plan --attention fused prices a fused kernel)",
                ) from error
            raise BadValue(f"{path}: the model does not build: {_reason(error)}", "correct the config") from error
    if getattr(config, "is_encoder_decoder", False) and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = getattr(config, "pad_token_id", None) or 0
    examples = Examples(module, config, path)
    words, limit = examples.spoken, examples.positions
    if sequence is not None and not words:
        raise BadValue(f"{path} takes {examples.main}, not sequences of {sequence}", "leave the sequence out")
    if words and sequence is not None and limit and sequence > limit and not hasattr(config, "rope_parameters"):
        raise BadValue(f"{path} has {limit} positions, not {sequence}", f"ask for at most {limit}")
    name = Path(path).stem if path.endswith(".json") else Path(path).name
    shapes = {key: tuple(parameter.shape) for key, parameter in module.named_parameters()}
    return Source(
        name=config.model_type if name == "config" else name,
        text=f"hf:{path}",
        module=module,
        inputs=lambda batch, length: ((), examples(batch, length)),
        sequence=(sequence or min(limit or (512 if config.is_encoder_decoder else LONGEST), LONGEST)) if words else 1,
        has_sequence=words,
        family=FAMILIES.get(config.model_type, "traced"),
        architecture=architecture(config) | decoders.settings(config, shapes),
        plan=_plan(module, config),
        otherwise="the text model alone: its text_config as a config.json of its own"
        if getattr(config, "text_config", None) is not None
        else "",
    )


def read_config(path: str) -> Any:
    """The configuration object of a folder or a JSON file.

    Raises
    ------
    BadFile
        If there is no such file, it is not JSON, or names no model type.
    UnknownName
        If transformers does not know the model type.
    """
    import transformers

    try:
        file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    except (OSError, ValueError) as error:  # a name that no system takes
        raise BadFile(f"{path[:200]} cannot be read: {error}", "name a config.json or its folder") from None
    try:
        fields = json.loads(file.read_text())
    except OSError as error:
        raise BadFile(
            f"{file} cannot be read: {error.strerror}", "name a config.json or the folder that holds it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{file} is not JSON: {error}", "name a Hugging Face config.json") from None
    kind = fields.pop("model_type", None) if isinstance(fields, dict) else None
    if not kind:
        raise BadFile(f"{file} has no model_type", "name a Hugging Face config.json")
    try:
        with advice_off():
            return transformers.AutoConfig.for_model(kind, **fields)
    except Exception as error:  # the config classes raise their own types
        if kind in transformers.CONFIG_MAPPING:
            raise BadFile(f"{file}: {_reason(error)}", "correct the value") from None
        raise _unknown(file, kind, fields) from None


def _unknown(file: Path, kind: str, fields: Mapping[str, Any]) -> UnknownName:
    """Why a model type is not known here, and what would help."""
    import transformers

    named = [name for name in fields.get("architectures") or () if isinstance(name, str)]
    for name in named:
        known = getattr(getattr(transformers, name, None), "config_class", None)
        if known is not None:
            return UnknownName(
                f"{file}: transformers {transformers.__version__} has no model type {kind!r}, but has its architecture "
                f"{name}",
                f'write "model_type": "{known.model_type}" into a copy of the config',
            )
    if fields.get("auto_map"):
        return UnknownName(
            f"{file}: the code of model type {kind!r} is in its own repository (auto_map), which is not run here",
            "write a factory (package.module:factory) that builds it, or a config of a type that transformers has",
        )
    return UnknownName(f"transformers {transformers.__version__} has no model type {kind!r}", "upgrade it")


def _reason(error: Exception) -> str:
    """The last words of an error and of its cause, on one line."""
    return " ".join(" ".join(str(error).split()).split(" Please ")[:1])


def architecture(config: Any) -> dict[str, int | float | str | bool]:
    """Hyper-parameters in the zoo's vocabulary (see :mod:`uniap_zoo`), as far as the config has them."""
    spelled = {
        "layers": ("num_hidden_layers", "num_layers"),
        "decoder_layers": ("num_decoder_layers",),
        "hidden": ("hidden_size", "embed_dim"),
        "heads": ("num_attention_heads",),
        "kv_heads": ("num_key_value_heads", "num_attention_heads"),
        "head_size": ("head_dim", "d_kv"),
        "ffn": ("intermediate_size", "d_ff", "n_inner"),
        "vocab": ("vocab_size",),
        "tied": ("tie_word_embeddings",),
        "experts": ("num_local_experts", "num_experts"),
        "top_k": ("num_experts_per_tok",),
        "image": ("image_size",),
        "patch": ("patch_size",),
        "channels": ("num_channels",),
        "window": ("window_size",),
    }
    found: dict[str, int | float | str | bool] = {"family": FAMILIES.get(config.model_type, config.model_type)}
    for key, names in spelled.items():
        value = next((v for n in names if isinstance(v := getattr(config, n, None), int | float | str)), None)
        if value is not None:
            found[key] = value
    hidden, heads = found.get("hidden"), found.get("heads")
    if isinstance(hidden, int) and isinstance(heads, int) and "head_size" not in found:
        found["head_size"] = hidden // heads
    if config.model_type == "gpt2" and isinstance(hidden, int):
        found.setdefault("ffn", 4 * hidden)
    if config.model_type in ("gpt2", "bert"):
        found["positions"] = config.max_position_embeddings
    if config.model_type in ("vit", "swin"):
        found["classes"] = config.num_labels
    if config.model_type == "swin":
        found["depths"] = "/".join(map(str, config.depths))
        found["stage_heads"] = "/".join(map(str, config.num_heads))
        found["hidden"], found["layers"] = config.embed_dim, sum(config.depths)
    return found


def config_of(architecture: Mapping[str, Any]) -> dict[str, Any] | None:
    """The Hugging Face config of a zoo architecture (fields of its ``config.json``), if there is such a model."""
    a = architecture
    family = a.get("family")
    trunk = {
        "hidden_size": a.get("hidden"),
        "num_hidden_layers": a.get("layers"),
        "num_attention_heads": a.get("heads"),
        "intermediate_size": a.get("ffn"),
    }
    if family in ("llama", "mixtral"):
        config = trunk | {
            "num_key_value_heads": a["kv_heads"],
            "head_dim": a["head_size"],
            "vocab_size": a["vocab"],
            "tie_word_embeddings": a["tied"],
        }
        config |= {key: a[name] for key, name in LLAMA.items() if name in a}
        if family == "mixtral":
            config |= {"num_local_experts": a["experts"], "num_experts_per_tok": a["top_k"]}
        return config | {"model_type": family}
    if family == "gpt":
        sizes = {"n_embd": a["hidden"], "n_layer": a["layers"], "n_head": a["heads"], "n_inner": a["ffn"]}
        tables = {"vocab_size": a["vocab"], "n_positions": a["positions"], "tie_word_embeddings": a["tied"]}
        return {"model_type": "gpt2", "activation_function": "gelu_pytorch_tanh"} | sizes | tables
    if family == "bert":
        more = {"vocab_size": a["vocab"], "max_position_embeddings": a["positions"]}
        return trunk | more | {"model_type": "bert", "architectures": ["BertForPreTraining"]}
    if family == "t5":
        sizes = {"d_model": a["hidden"], "d_kv": a["head_size"], "d_ff": a["ffn"], "num_heads": a["heads"]}
        depths = {"num_layers": a["layers"], "num_decoder_layers": a["decoder_layers"], "vocab_size": a["vocab"]}
        return {"model_type": "t5"} | sizes | depths
    picture = {"image_size": a.get("image"), "patch_size": a.get("patch"), "num_channels": a.get("channels")}
    picture |= {"num_labels": a.get("classes")}
    if family == "vit":
        return trunk | picture | {"model_type": "vit"}
    if family == "swin":
        stages = {key: [int(n) for n in str(a[name]).split("/")] for key, name in SWIN.items()}
        sizes = {"embed_dim": a["hidden"], "window_size": a["window"], "mlp_ratio": a["ffn_ratio"]}
        return {"model_type": "swin"} | picture | stages | sizes
    return None


LLAMA = {"rope_theta": "rotary_base", "rms_norm_eps": "norm_eps"}
"""Settings of Llama's config that the zoo records."""

SWIN = {"depths": "depths", "num_heads": "stage_heads"}
"""Lists of Swin's config and what the zoo calls them."""


def _model_class(config: Any) -> Callable[[Any], Any]:
    import transformers

    for name in getattr(config, "architectures", None) or ():
        chosen = getattr(transformers, str(name), None)
        if isinstance(chosen, type) and issubclass(chosen, transformers.PreTrainedModel):
            return chosen
    # A model of encoder and decoder is trained whole, though its decoder has a head of its own too.
    paired = bool(getattr(config, "is_encoder_decoder", False))
    for head in sorted(HEADS, key=lambda head: paired and "Seq2Seq" not in head):
        auto = getattr(transformers, head)
        if type(config) in auto._model_mapping:
            return auto.from_config  # type: ignore[no-any-return]
    raise UnknownName(f"transformers has no model for {config.model_type}", "write a factory: package.module:factory")


def _plan(module: Any, config: Any) -> dict[str, str]:
    """The model's tensor-parallel plan with patterns relative to the whole model."""
    prefix = getattr(module, "base_model_prefix", "")
    base = getattr(config, "base_model_tp_plan", None) or {}
    nested = prefix and hasattr(module, prefix)
    plan = {f"{prefix}.{key}" if nested else key: style for key, style in base.items()}
    text = getattr(config, "text_config", None)
    inner = getattr(text, "base_model_tp_plan", None) or {}
    where = next((name for name, part in module.named_modules() if name and getattr(part, "config", None) is text), "")
    plan |= {f"{where}.{key}": style for key, style in inner.items() if where}
    return plan | dict(getattr(type(module), "_tp_plan", None) or {})


def _attribute(text: str) -> Callable[..., Any]:
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except ImportError as error:
        raise UnknownName(f"{module} does not import: {error}", "check the name and the Python path") from None
    except AttributeError:
        raise UnknownName(f"module {module} has no {name!r}", "name a function of that module") from None


def _arguments(example: Any) -> Inputs:
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, list | tuple) else (example,)), {}


def _repeat(arguments: Inputs, batch: int) -> Inputs:
    import torch
    from torch.utils._pytree import tree_map

    def grow(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            return value
        return value[:1].expand(batch, *value.shape[1:]).contiguous()

    return tree_map(grow, arguments)  # type: ignore[no-any-return]


class advice_off:
    """Silences transformers' warnings while a model is built or run, if it is loaded at all."""

    def __enter__(self) -> None:
        self.logging = getattr(sys.modules.get("transformers"), "logging", None)
        if self.logging is not None:
            self.before = self.logging.get_verbosity()
            self.logging.set_verbosity_error()

    def __exit__(self, *error: object) -> None:
        if self.logging is not None:
            self.logging.set_verbosity(self.before)
