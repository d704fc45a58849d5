"""An exported script trains as the plan does, in a Python that knows torch and nothing of uniap."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import fsdp_parity as parity
from fsdp_plans import proposal
from fsdp_ranks import Ranks
from uniap_fsdp.script import export

from model_zoo import build
from uniap_core.api import Inexpressible, Job

pytestmark = [pytest.mark.torch, pytest.mark.slow]

GRAPH = build("t5:layers=1,hidden=32,heads=4,head_size=8,ffn=64,vocab=64,seq=16")
BLOCKED = "import sys; sys.modules.update(dict.fromkeys(['uniap_core', 'uniap_fsdp', 'uniap_torch', 'msgspec']))\n"


def test_an_exported_script_needs_torch_alone_and_trains_as_planned(tmp_path: Path) -> None:
    plan = proposal(GRAPH, 2, ["tp2-dp1-sp", "tp1-dp2", "tp2-dp1", "tp1-dp2-zero3", "tp2-dp1-full-sp", "tp1-dp2-zero1"])
    written = export(plan, tmp_path)
    assert str(tmp_path / "train.py") in written
    script = tmp_path / "train.py"
    script.write_text(script.read_text().replace("import argparse\n", BLOCKED + "import argparse\n", 1))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(
        [*command, "--steps=3"], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"loss ([\d.]+),", done.stdout)]
    pool = Ranks(1)
    expected, _, _ = pool.run(parity.alone, GRAPH, 8, Job(steps=3))[0]
    pool.close()
    assert losses == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_a_traced_model_is_exported_if_its_family_has_the_same_layers(tmp_path: Path, tied: bool) -> None:
    pytest.importorskip("transformers")
    from uniap_torch.trace import trace

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 64}
    config = {"model_type": "llama", "num_hidden_layers": 2, "max_position_embeddings": 16, "tie_word_embeddings": tied}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(sizes | config))
    traced = trace(f"hf:{path}")
    export(proposal(traced, 2, "tp1-dp2"), tmp_path / "same")
    assert f"with the sizes of hf:{path}" in (tmp_path / "same" / "train.py").read_text()
    path.write_text(json.dumps(sizes | config | {"attention_bias": True}))
    with pytest.raises(Inexpressible, match="would need its own code"):
        export(proposal(trace(f"hf:{path}"), 2, "tp1-dp2"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_model_without_code_here_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(Inexpressible, match="would need its own code"):
        export(proposal(build("vit-huge"), 2, "tp1-dp2"), tmp_path)
    assert not list(tmp_path.iterdir())
