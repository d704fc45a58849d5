"""Columns are believed over names: what a row states decides its price, and a name that says otherwise is noted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.uniap_zoo.known_sizes import KNOWN
from uniap_core.estimate import estimate

RUN = {"gpu": "H100-80GB", "num_gpus": "8", "gpus_per_node": "8", "tp": "1", "pp": "1", "cp": "1", "ep": "1", "dp": "8"}
RUN |= {
    "system": "PyTorch FSDP",
    "global_batch": "16",
    "micro_batch": "1",
    "sharding": "zero3",
    "recompute": "full",
    "precision": "bf16",
}
DENSE = {"layers": "28", "hidden": "3584", "heads": "28", "kv_heads": "4", "head_size": "128", "ffn": "18944"}
DENSE |= {"vocab": "152064", "seq": "4096"}
SPARSE = {"layers": "12", "hidden": "2048", "heads": "32", "kv_heads": "4", "head_size": "128", "ffn": "6144"}
SPARSE |= {"vocab": "151936", "seq": "4096", "experts": "64", "top_k": "8", "moe_ffn": "768", "shared_experts": "1"}
SPARSE |= {"dense_layers": "2"}
PREDICTED = ("pred_iter_time_s", "pred_mem_gib", "pred_fits")

NAMES = [
    *(
        "R1-Distill-Qwen-7B",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "Qwen2.5-7B",
        "Qwen3-30B-A3B",
        "gpt",
        "my model",
    ),
    *(
        "GPT-3 175B",
        "DeepSeek-V3",
        "deepseek-coder-33b-instruct",
        "Mixtral-8x7B",
        "Somebody-MoE",
        "llama3b",
        "GLM-4.5-Air",
    ),
    *("SmolLM3-3B", "prompt-tuned", "Kimi-K2", "x"),
]


def predicted(model: str, sizes: dict[str, str], **more: str) -> dict[str, str]:
    return estimate([{"model": model} | sizes | RUN | more])[0]


def price(model: str, sizes: dict[str, str], **more: str) -> list[str]:
    row = predicted(model, sizes, **more)
    assert row["pred_iter_time_s"], row["pred_note"]
    return [row[name] for name in PREDICTED]


# --- what renaming and reordering change ------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.permutations(sorted(DENSE | RUN | {"model": "Qwen2.5-7B"})))
def test_the_order_of_columns_changes_nothing(order: list[str]) -> None:
    row = DENSE | RUN | {"model": "Qwen2.5-7B"}
    assert estimate([{name: row[name] for name in order}])[0] == estimate([row])[0]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from([DENSE, SPARSE]))
def test_a_name_changes_nothing_where_columns_say_all(name: str, sizes: dict[str, str]) -> None:
    dense = {"experts": "0"} if sizes is DENSE else {}
    assert price(name, sizes, **dense) == price("Llama", sizes, **dense)


@settings(max_examples=40, deadline=None)
@given(
    st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=12), st.sampled_from(["gpt", "llama"])
)
def test_no_name_changes_a_stated_family(name: str, family: str) -> None:
    sizes = {"layers": "4", "hidden": "1024", "heads": "16", "kv_heads": "16", "head_size": "64", "ffn": "4096"}
    sizes |= {"vocab": "50304", "seq": "1024", "experts": "0", "family": family, "recompute": "none"}
    assert price(name, sizes) == price("GPT", sizes) == price("mamba", sizes)


def test_a_model_distilled_into_another_is_the_other() -> None:
    assert price("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", DENSE) == price("Qwen2.5-7B", DENSE)
    assert "published" not in predicted("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", DENSE)["pred_note"]


# --- what is noted ----------------------------------------------------------------------------------------------

STATED = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "head_size")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(set(KNOWN) - {"t5-base", "t5-3b", "t5-11b"})), st.sampled_from(STATED))
def test_a_column_against_a_published_model_is_noted(name: str, field: str) -> None:
    known = KNOWN[name]
    sizes = {f: str(getattr(known, f)) for f in (*STATED, "experts", "top_k") if getattr(known, f)}
    value = int(sizes.get(field) or known.hidden // known.heads)
    said = predicted(name, sizes | {"seq": "1024", field: str(2 * value)})["pred_note"]
    assert f"{field} {2 * value} (published: {value})" in said or "not predicted" in said
    assert "published:" not in predicted(name, sizes | {"seq": "1024"})["pred_note"]


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("Llama-3.1-70B", {}, "7.62 B parameters by the columns, not 70 B as in the name"),
        ("Somebody-MoE", {"experts": "0"}, "dense by its columns"),
        ("GPT", {}, "a gated MLP (Llama's) by its width, not that of a gpt model"),
        ("my model", {}, "a gated MLP (Llama's) by its width"),
        ("my model", {"ffn": "14336"}, "Llama's layers: the name says nothing"),
        ("my model", {"ffn": "14336", "kv_heads": "28"}, "GPT's layers: the name says nothing"),
        ("Qwen", {"experts": "8", "top_k": "2"}, "experts by its columns"),
        ("Mixtral-8x7B", {"experts": "16", "top_k": "2"}, "experts 16 by the column, not 8 as in the name"),
        ("DeepSeek-V3", {}, "dense by its columns"),
        ("DeepSeek-V3", {"experts": "8", "top_k": "2"}, "attention without latent ranks"),
        ("Llama-7B LoRA", {}, "adapters are not priced"),
        ("BERT", {"family": "llama"}, "family llama, whatever the name BERT says"),
        (
            "Qwen3-30B-A3B",
            SPARSE | {"experts": "", "top_k": "", "moe_ffn": "", "layers": "48"},
            "experts 768 wide, not 6144",
        ),
    ],
)
def test_what_a_name_says_otherwise_is_noted(name: str, changes: dict[str, str], word: str) -> None:
    row = predicted(name, DENSE | changes)
    assert word in row["pred_note"]
    assert row["pred_iter_time_s"]


@pytest.mark.parametrize("name", ["Qwen2.5-7B", "deepseek-coder-7b", "DeepSeek-R1-Distill-Qwen-7B"])
def test_a_name_that_agrees_is_not(name: str) -> None:
    assert predicted(name, DENSE)["pred_note"] == ""


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "word"),
    [
        ("state-spaces/mamba2-2.7b", {}, "no attention"),
        ("Qwen3-Next-80B-A3B", {}, "no attention"),
        ("Nemotron_3_Nano", {}, "no attention"),
        ("Kimi-K2", {}, "mixtral model cannot be built"),
        ("GLM-5.2", {"kv_heads": ""}, "mixtral model cannot be built"),
        ("my model", {"ffn": ""}, "no family is known by the name my model"),
        ("Llama", {"top_k": "2"}, "top_k given and no experts"),
        ("Llama", {"experts": "4"}, "mixtral model cannot be built"),
        ("Llama", {"experts": "4", "top_k": "8"}, "top_k 8 of 4 experts"),
        ("T5", {"experts": "4", "top_k": "1"}, "a t5 model with 4 experts"),
        ("BERT", {}, "neither key heads nor a head size"),
        ("Llama", {"head_dim": "64"}, "head_size is 128 and head_dim 64"),
        ("Llama", {"family": "cnn"}, "there is no family 'cnn'"),
        ("Llama", {"family": "llama", "experts": "4", "top_k": "2"}, "family llama has no experts"),
    ],
)
def test_what_no_column_decides_is_refused(name: str, changes: dict[str, str], word: str) -> None:
    row = predicted(name, DENSE | changes)
    assert row["pred_note"].startswith("not predicted: ")
    assert word in row["pred_note"]


# --- columns ----------------------------------------------------------------------------------------------------


def test_heads_need_not_divide_the_hidden_size() -> None:
    """GLM-4.5-Air has 96 heads of 128 on 4096."""
    sizes = DENSE | {"hidden": "4096", "heads": "96", "kv_heads": "8"}
    assert price("mine", sizes | {"head_size": "", "head_dim": "128"}) == price("mine", sizes)
    blank = predicted("mine", sizes | {"head_size": ""})
    assert "head size 128" in blank["pred_note"]
    assert [blank[name] for name in PREDICTED] == price("mine", sizes)


def test_every_column_of_a_mixture_counts() -> None:
    base = float(predicted("mine", SPARSE)["pred_mem_gib"])
    for column, more in {"experts": "128", "moe_ffn": "1536", "shared_experts": "8", "dense_layers": "0"}.items():
        assert float(predicted("mine", SPARSE | {column: more})["pred_mem_gib"]) != base, column
    fewer, most = (float(predicted("mine", SPARSE | {"top_k": k})["pred_iter_time_s"]) for k in ("2", "16"))
    assert fewer < most


def test_a_gpt_has_heads_of_its_own_too() -> None:
    sizes = {"layers": "4", "hidden": "1024", "heads": "16", "ffn": "4096", "vocab": "50304", "seq": "1024"}
    plain = price("GPT", sizes)
    assert price("GPT", sizes | {"head_size": "64", "kv_heads": "16"}) == plain
    assert float(price("GPT", sizes | {"head_size": "128"})[0]) > float(plain[0])
