"""An exported script trains as the plan does, in a Python that knows torch and nothing of uniap."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import fsdp_parity as parity
import msgspec
import torch
from fsdp_plans import proposal
from fsdp_ranks import Ranks
from hf_models import alike, random_model, renamed, write_config
from uniap_fsdp.script import export

from uniap_core.api import Inexpressible, Job, ModelGraph, Proposal
from uniap_zoo import build

pytestmark = [pytest.mark.torch, pytest.mark.slow]

GRAPH = build("t5:layers=1,hidden=32,heads=4,head_size=8,ffn=64,vocab=64,seq=16")
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(['uniap_core', 'uniap_fsdp', 'uniap_torch', 'msgspec']))\n"


def losses_of_script(plan: Proposal, folder: Path) -> list[float]:
    """Losses that the exported script prints when torchrun starts it on the plan's ranks."""
    script = folder / "train.py"
    assert str(script) in export(plan, folder)
    script.write_text(script.read_text().replace("import argparse\n", BLOCKED + "import argparse\n", 1))
    ranks = f"--nproc-per-node={plan.cluster.devices}"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", ranks, str(script)]
    done = subprocess.run(
        [*command, "--steps=3"], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    return [float(x) for x in re.findall(r"loss ([\d.]+),", done.stdout)]


def losses_alone(graph: ModelGraph) -> list[float]:
    """Losses of one process that trains the executor's own model of a graph."""
    pool = Ranks(1)
    losses, _, _ = pool.run(parity.alone, graph, 8, Job(steps=3))[0]
    pool.close()
    return list(losses)


def traced(folder: Path, kind: str, **fields: Any) -> ModelGraph:
    """The graph of a small model of transformers."""
    pytest.importorskip("transformers")
    from uniap_torch.trace import trace

    return trace(f"hf:{write_config(folder, kind, **fields)}", 16)


MIXED = ["tp2-dp1-sp", "tp1-dp2", "tp2-dp1", "tp1-dp2-zero3", "tp2-dp1-full-sp", "tp1-dp2-zero1"]


@pytest.mark.parametrize(
    ("strategies", "options"),
    [(MIXED, {}), ("tp1-dp1", {"cuts": (1, 2, 4), "schedule": "zbv", "vpp": 2})],
    ids=["mixed", "zbv"],
)
def test_an_exported_script_needs_torch_alone_and_trains_as_planned(
    tmp_path: Path, strategies: Any, options: dict[str, Any]
) -> None:
    plan = proposal(GRAPH, 2, strategies, **options)
    assert losses_of_script(plan, tmp_path) == pytest.approx(losses_alone(GRAPH), rel=1e-5, abs=1e-6)


def test_the_script_of_a_traced_model_trains_under_all_kinds_of_parallelism(tmp_path: Path) -> None:
    graph = traced(tmp_path, "qwen3")
    plan = proposal(graph, 8, ["tp2-dp2-sp", "tp2-dp2-zero3", "tp2-dp2-zero1-full-sp", "tp2-dp2-sp"], cuts=(2,))
    own = msgspec.structs.replace(graph, source="")
    assert losses_of_script(plan, tmp_path / "script") == pytest.approx(losses_alone(own), rel=1e-5, abs=1e-6)


LOGITS = """
import torch
from train import PLAN
from runtime.check import check
from runtime.models import build

check(PLAN)
model = build(PLAN.model)
model.load_state_dict(torch.load("weights.pt"))
with torch.no_grad():
    torch.save(model(torch.load("tokens.pt")), "logits.pt")
"""


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_the_exported_model_with_the_weights_of_transformers_gives_its_logits(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "script"
    export(proposal(traced(tmp_path, kind), 2, "tp1-dp2"), folder)
    theirs = random_model(tmp_path / "config.json")
    tokens = torch.randint(0, 64, (3, 16), generator=torch.Generator().manual_seed(1))
    torch.save(renamed(theirs), folder / "weights.pt")
    torch.save(tokens, folder / "tokens.pt")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + LOGITS], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert alike(torch.load(folder / "logits.pt"), theirs(tokens).logits)


@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": True}, {"attention_bias": True}])
def test_a_traced_model_is_exported_if_its_family_has_the_same_layers(tmp_path: Path, fields: dict[str, Any]) -> None:
    export(proposal(traced(tmp_path, "llama", **fields), 2, "tp1-dp2"), tmp_path / "same")
    assert f"with the sizes of hf:{tmp_path / 'config.json'}" in (tmp_path / "same" / "train.py").read_text()


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("llama", {"hidden_act": "gelu"}, "the Llama here has no activation geglu"),
        ("mistral", {"sliding_window": 8}, r"the Llama here has no sliding window of 8 \(the plan's sequence is 16\)"),
        ("olmo2", {}, "there is none here for olmo2, only for llama"),
    ],
)
def test_a_traced_model_that_differs_is_refused(tmp_path: Path, kind: str, fields: dict[str, Any], words: str) -> None:
    plan = proposal(traced(tmp_path, kind, **fields), 2, "tp1-dp2")
    with pytest.raises(Inexpressible, match=f"would need its own code: {words}") as caught:
        export(plan, tmp_path / "other")
    assert "uniap run" in caught.value.fix
    assert not (tmp_path / "other").exists()


def test_a_model_without_code_here_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(Inexpressible, match="would need its own code"):
        export(proposal(build("vit-huge"), 2, "tp1-dp2"), tmp_path)
    assert not list(tmp_path.iterdir())
