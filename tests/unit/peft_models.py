"""Small models of transformers with the adapters that PEFT itself puts into them."""

from __future__ import annotations

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

LLAMA = LlamaConfig(
    hidden_size=256,
    num_attention_heads=8,
    num_key_value_heads=4,
    intermediate_size=512,
    num_hidden_layers=2,
    vocab_size=1000,
    use_cache=False,
    attn_implementation="sdpa",
)


def _adapted(targets, batch, sequence):
    model = get_peft_model(LlamaForCausalLM(LLAMA), LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM"))
    tokens = torch.zeros(batch, sequence, dtype=torch.long)
    return model, {"input_ids": tokens, "labels": tokens}


def everywhere(batch=1, sequence=64):
    """Beside all products of the blocks."""
    return _adapted("all-linear", batch, sequence)


def attention(batch=1, sequence=64):
    """Beside queries and values alone."""
    return _adapted(["q_proj", "v_proj"], batch, sequence)


def packed(batch=1, sequence=64):
    """Of weights that are four bits each, two in an element, as bitsandbytes packs them."""
    model = LlamaForCausalLM(LLAMA)
    for block in model.model.layers:
        weight = torch.zeros(block.mlp.down_proj.weight.numel() // 2, 1, dtype=torch.uint8)
        block.mlp.down_proj.weight = torch.nn.Parameter(weight, requires_grad=False)
    return model, {"input_ids": torch.zeros(batch, sequence, dtype=torch.long)}
