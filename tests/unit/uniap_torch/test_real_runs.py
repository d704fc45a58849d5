"""The tracer against models of transformers that really run: parameters, FLOPs, and what autograd keeps."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from uniap_torch import sources  # noqa: E402
from uniap_torch.trace import graph  # noqa: E402

from tests.hf_config import write_config  # noqa: E402
from tests.unit.uniap_torch.traced_models import kept_bytes  # noqa: E402

SEQUENCE = 48
WINDOW = {"head_dim": 8, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
ROUTED = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
STATES = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}

KINDS = {
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "mlp_only_layers": [0], **ROUTED},
    "gemma2": WINDOW,
    "gpt_oss": WINDOW | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phi3": {},
    "olmo2": {},
    "deepseek_v3": LATENT
    | ROUTED
    | {"num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1},
    "glm4": {"head_dim": 8},
    "exaone4": {"sliding_window": 16, "sliding_window_pattern": 2},
    "ministral": WINDOW,
    "nemotron": {},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "expand": 2, "chunk_size": 16},
    "granitemoehybrid": STATES
    | {"layer_types": ["mamba", "attention"], "num_local_experts": 4, "num_experts_per_tok": 2}
    | {"shared_intermediate_size": 16},
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """A traced graph, and the same model on the CPU with random weights."""
    path = write_config(tmp_path_factory.mktemp(request.param), request.param, **KINDS[request.param])
    source = sources.load(f"hf:{path}", SEQUENCE)
    made = graph(source)
    module = source.module.to_empty(device="cpu").float().eval()
    module.tie_weights()
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(-0.1, 0.1)
            else:
                tensor.zero_()
    return made, module, source


def given(source, batch):
    def real(value):
        return torch.randint(0, 60, value.shape) if value.dtype == torch.long else torch.ones_like(value, device="cpu")

    return torch.utils._pytree.tree_map_only(torch.Tensor, real, source.inputs(batch, SEQUENCE))


def routed(rows, weights, *_, **__):
    """FLOPs of every row by the matrix of its expert, which torch does not count."""
    return 2 * rows[0] * rows[1] * weights[-1]


def test_parameters_and_flops_are_those_of_a_run(pair):
    made, module, source = pair
    assert made.parameters == sum(p.numel() for p in module.parameters())
    args, more = given(source, 2)
    counts = {torch.ops.aten._grouped_mm: routed}
    with FlopCounterMode(display=False, custom_mapping=counts) as counter, sdpa_kernel(SDPBackend.MATH):
        module(*args, **more)
    assert made.flops(2) == pytest.approx(counter.get_total_flops(), rel=0.01)


class Fused(torch.autograd.Function):
    """Attention that keeps what fused kernels keep: its operands, its output, a statistic per query and head."""

    @staticmethod
    def forward(ctx, query, key, value, mask, causal, scale):
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )
        out = out.transpose(1, 2).contiguous().transpose(1, 2)  # as kernels for training lay it out
        ctx.save_for_backward(query, key, value, out, query.new_zeros(query.shape[:3], dtype=torch.float32))
        return out


@pytest.fixture
def fused(monkeypatch):
    kernel = torch.nn.functional.scaled_dot_product_attention

    def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        with monkeypatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", kernel)
            return Fused.apply(query, key, value, attn_mask, is_causal, scale)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)


def kept(module, source, batch):
    args, more = given(source, batch)
    fixed = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    seen = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = module(*args, **more)
    del out
    return sum(size for size, _ in seen.values())


@pytest.mark.usefixtures("fused")
def test_kept_bytes_are_what_autograd_keeps(pair):
    """In bf16; three samples less two are one."""
    made, module, source = pair
    module.to(torch.bfloat16)
    measured = kept(module, source, 3) - kept(module, source, 2)
    assert kept_bytes(made, 1, 2) == pytest.approx(measured, rel=0.05)
