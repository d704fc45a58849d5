"""The models here compute what those of transformers do, or a script of a plan with them is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from fsdp_plans import proposal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hf_models import CONFIGS, alike, random_model, renamed, write_config  # noqa: E402
from uniap_fsdp.likeness import differences  # noqa: E402
from uniap_fsdp.models import build  # noqa: E402
from uniap_fsdp.models.names import LLAMAS  # noqa: E402
from uniap_torch.trace import trace  # noqa: E402

from tests.editing import changed  # noqa: E402
from tests.hf_config import SIZES  # noqa: E402

pytestmark = pytest.mark.torch

SEQUENCE = 16


def assert_same(path: Path) -> None:
    """The model built from the traced graph, with the weights of transformers', gives its logits and its loss."""
    graph = trace(f"hf:{path}", SEQUENCE)
    assert list(differences(proposal(graph, 2, "tp1-dp2"))) == []
    theirs, ours = random_model(path), build(graph)
    ours.load_state_dict(renamed(theirs))
    tokens = torch.randint(0, SIZES["vocab_size"], (3, SEQUENCE), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, logits = theirs(tokens, labels=tokens), ours(tokens)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert alike(logits, expected.logits)
    assert float(loss) == pytest.approx(float(expected.loss), rel=1e-5)


@pytest.mark.parametrize("kind", LLAMAS)
def test_a_model_with_the_weights_of_transformers_gives_its_logits(kind: str, tmp_path: Path) -> None:
    assert_same(write_config(tmp_path, kind))


STRETCHED = {
    "linear": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
        "rope_theta": 5e5,
    },
}


@pytest.mark.parametrize("kind", STRETCHED)
def test_stretched_rotary_positions_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    assert_same(write_config(tmp_path, "llama", head_dim=16, rope_parameters=STRETCHED[kind]))


@st.composite
def configs(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Models whose heads, biases, ties, epsilons and rotary bases are any."""
    shared = draw(st.sampled_from([1, 2, 3]))
    fields = {
        "num_key_value_heads": shared,
        "num_attention_heads": shared * draw(st.sampled_from([1, 2])),
        "head_dim": 2 * draw(st.integers(2, 8)),
        "hidden_size": 24,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "tie_word_embeddings": draw(st.booleans()),
        "attention_bias": draw(st.booleans()),
        "rms_norm_eps": draw(st.sampled_from([1e-6, 1e-5, 1e-2])),
        "rope_theta": draw(st.sampled_from([1e2, 1e4, 1e6])),
    }
    kind = draw(st.sampled_from(["llama", "qwen2", "qwen3", "mistral"]))
    if kind == "qwen2":
        fields["head_dim"] = fields["hidden_size"] // fields["num_attention_heads"]
    return kind, fields


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=configs())
def test_any_settings_are_carried_into_the_model(case: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    kind, fields = case
    assert_same(write_config(tmp_path, kind, **fields))


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "no sliding window of 15": ("mistral", {"sliding_window": SEQUENCE - 1}),
    "no sliding window of 8": ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "no rotary positions of the kind yarn": (
        "qwen3",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32,
                "rope_theta": 1e6,
            },
            "max_position_embeddings": 128,
        },
    ),
    "no activation geglu": ("llama", {"hidden_act": "gelu"}),
    "none here for olmo2": ("olmo2", {}),
    "layer head has": ("qwen2", {"architectures": ["Qwen2ForTokenClassification"]}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_model_that_the_code_here_is_not_is_told_by_what_differs(words: str, tmp_path: Path) -> None:
    kind, fields = REFUSED[words]
    graph = trace(f"hf:{write_config(tmp_path, kind, **fields)}", SEQUENCE)
    assert words in "; ".join(differences(proposal(graph, 2, "tp1-dp2")))


def test_a_window_no_shorter_than_the_sequence_is_no_window(tmp_path: Path) -> None:
    assert_same(write_config(tmp_path, "mistral", sliding_window=SEQUENCE))


@pytest.mark.parametrize("place", ["residual", "attention"])
def test_dropout_is_a_difference_in_a_plan_that_trains_with_it(place: str, tmp_path: Path) -> None:
    rates = {"residual_dropout": 0.0, "attention_dropout": 0.0, f"{place}_dropout": 0.1}
    plan = proposal(trace(f"hf:{write_config(tmp_path, 'seed_oss', **rates)}", SEQUENCE), 2, "tp1-dp2")
    assert list(differences(plan)) == []
    dropping = changed(plan, dropout=True)
    assert list(differences(dropping)) == ["the code here has no dropout"]


def test_settings_that_a_graph_does_not_say_are_differences(tmp_path: Path) -> None:
    graph = trace(f"hf:{write_config(tmp_path, 'seed_oss')}", SEQUENCE)
    sizes = {key: value for key, value in graph.architecture.items() if not key.startswith(("rotary", "head_size"))}
    unsaid = list(differences(proposal(msgspec.structs.replace(graph, architecture=sizes), 2, "tp1-dp2")))
    assert unsaid == [
        "its graph, of an older trace, does not say its rotary positions",
        "its graph does not say its head_size",
    ]


def test_every_model_type_that_is_llama_is_tried() -> None:
    assert set(CONFIGS) == set(LLAMAS)
