"""The model of a plan as a torchtitan configuration module."""

from __future__ import annotations

from collections.abc import Mapping

from uniap_core.api import Plan, Value, line, literal

from . import TORCHTITAN
from .expressible import facts_of

MODULE = "uniap_plan"
"""Name of the module that is written, for ``--module``."""

FUNCTION = "train"
"""Its configuration function, for ``--config``."""


def module_text(plan: Plan) -> str:
    """A Python module with one function that returns a ``Trainer.Config``."""
    shape = facts_of(plan.model)
    return TEMPLATE.format(
        version=TORCHTITAN,
        title=line(plan.model.name),
        flavor=literal(plan.model.name),
        function=FUNCTION,
        dim=int(shape["hidden"]),
        layers=int(shape["layers"]),
        heads=int(shape["heads"]),
        kv_heads=int(shape["kv_heads"]),
        head_size=int(shape["head_size"]),
        ffn=int(shape["ffn"]),
        vocab=int(shape["vocab"]),
        sequence=plan.sequence,
        tied=bool(shape["tied"]),
        epsilon=float(shape["norm_eps"]),
        rotary=_rotary(shape),
    )


def _rotary(shape: Mapping[str, Value]) -> str:
    """Rotary positions as keyword arguments."""
    text = f"theta={float(shape['rotary_base'])!r}"
    if shape["rotary"] == "llama3":
        numbers = {
            "scaling_factor": float(shape["rotary_factor"]),
            "low_freq_factor": float(shape["rotary_low"]),
            "high_freq_factor": float(shape["rotary_high"]),
            "original_max_position_embeddings": int(shape["rotary_positions"]),
        }
        text += ', scaling="llama"' + "".join(f", {name}={value!r}" for name, value in numbers.items())
    return text


TEMPLATE = '''\
# {title}
"""A model for torchtitan {version}, written by uniap. The model alone: flags.txt has what the plan decides."""

from functools import partial

from torch import nn
from torchtitan.components.loss import CrossEntropyLoss
from torchtitan.components.metrics import MetricsProcessor
from torchtitan.components.optimizer import LRSchedulersContainer, default_adamw
from torchtitan.distributed.pipeline_parallel import pipeline_llm
from torchtitan.hf_datasets.text_datasets import HuggingFaceTextDataLoader
from torchtitan.models.common import ComplexRoPE, Embedding, Linear, RMSNorm
from torchtitan.models.common.config_utils import get_attention_config, make_ffn_config, make_gqa_config
from torchtitan.models.common.param_init import depth_scaled_std, skip_param_init
from torchtitan.models.llama3 import Llama3Model, parallelize_llama
from torchtitan.models.llama3.model import Llama3TransformerBlock
from torchtitan.models.llama3.state_dict_adapter import Llama3StateDictAdapter
from torchtitan.protocols.model_spec import ModelSpec
from torchtitan.trainer import Trainer

DIM, LAYERS, HEADS, KV_HEADS, HEAD_SIZE, FFN = {dim}, {layers}, {heads}, {kv_heads}, {head_size}, {ffn}
VOCAB, SEQUENCE, TIED = {vocab}, {sequence}, {tied}
ROTARY = dict({rotary})


def normal(std):
    return {{"weight": partial(nn.init.trunc_normal_, std=std), "bias": nn.init.zeros_}}


def norm():
    return RMSNorm.Config(normalized_shape=DIM, eps={epsilon!r}, param_init={{"weight": nn.init.ones_}})


def block(number):
    deep = normal(depth_scaled_std(0.02, number))
    return Llama3TransformerBlock.Config(
        attention_norm=norm(),
        ffn_norm=norm(),
        attention=make_gqa_config(
            dim=DIM,
            n_heads=HEADS,
            n_kv_heads=KV_HEADS,
            head_dim=HEAD_SIZE,
            fuse_qkv=True,
            inner_attention=get_attention_config("flex"),
            rope=ComplexRoPE.Config(dim=HEAD_SIZE, max_seq_len=SEQUENCE, **ROTARY),
            wqkv_param_init=normal(0.02),
            wo_param_init=deep,
        ),
        feed_forward=make_ffn_config(dim=DIM, hidden_dim=FFN, w1_param_init=normal(0.02), w2w3_param_init=deep),
    )


def model():
    embedding_init = skip_param_init if TIED else partial(nn.init.normal_, std=1.0)
    return Llama3Model.Config(
        dim=DIM,
        vocab_size=VOCAB,
        enable_weight_tying=TIED,
        tok_embeddings=Embedding.Config(
            num_embeddings=VOCAB, embedding_dim=DIM, param_init={{"weight": embedding_init}}
        ),
        norm=norm(),
        lm_head=Linear.Config(in_features=DIM, out_features=VOCAB, param_init=normal(DIM**-0.5)),
        layers=[block(number) for number in range(LAYERS)],
    )


def {function}():
    return Trainer.Config(
        model_spec=ModelSpec(
            name="llama3",
            flavor={flavor},
            model=model(),
            parallelize_fn=parallelize_llama,
            pipelining_fn=pipeline_llm,
            post_optimizer_build_fn=None,
            state_dict_adapter=Llama3StateDictAdapter,
        ),
        loss=CrossEntropyLoss.Config(global_vocab_size=VOCAB),
        optimizer=default_adamw(lr=3e-4),
        lr_scheduler=LRSchedulersContainer.Config(warmup_steps=2),
        dataloader=HuggingFaceTextDataLoader.Config(dataset="c4"),
        metrics=MetricsProcessor.Config(log_freq=1),
    )
'''
