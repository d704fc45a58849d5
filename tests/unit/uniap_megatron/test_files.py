"""The files of an export, and the script run with a stand-in for torchrun."""

import json
import os
import subprocess
import sys

import pytest
from uniap_megatron import EXECUTOR, MEGATRON
from uniap_megatron.arguments import words

from tests.planned import planned
from uniap_core.export import export

ECHO = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.fixture
def torchrun(tmp_path):
    """A torchrun that prints the words it was given."""
    script = tmp_path / "torchrun"
    script.write_text(f"#!{sys.executable}\n{ECHO}\n")
    script.chmod(0o755)
    return str(script)


def launch(folder, torchrun, *more, **settings):
    environment = {"PATH": os.environ["PATH"], "TORCHRUN": torchrun, **settings}
    return subprocess.run([f"{folder}/launch.sh", *more], env=environment, capture_output=True, text=True)


def test_the_script_passes_the_plan_word_for_word(tmp_path, torchrun):
    plan = planned("llama", "tp2-dp2-zero1-sp", cuts=(3,), micro_batches=4, cluster="2x4xA100-80G")
    files = export(plan, EXECUTOR, tmp_path / "out")
    assert [os.path.basename(file) for file in files] == ["arguments.txt", "launch.sh"]
    where = {"NODE_RANK": "1", "MASTER_ADDR": "first"}
    done = launch(tmp_path / "out", torchrun, "--save=/x", MEGATRON=str(tmp_path), STEPS="7", **where)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    at = said.index("pretrain_gpt.py")
    assert {"--nnodes=2", "--nproc-per-node=4", "--node-rank=1", "--master-addr=first"} <= set(said[:at])
    assert said[at + 1 : at + 1 + len(words(plan))] == words(plan)
    assert {"--mock-data", "--vocab-size=999", "--train-iters=7"} <= set(said)
    # Without them its training loop divides by None (megatron/training/training.py, evaluation).
    assert {"--eval-interval=1000", "--eval-iters=0"} <= set(said)
    assert said[-1] == "--save=/x"


@pytest.mark.parametrize("lacking", ["NODE_RANK", "MASTER_ADDR"])
def test_on_several_nodes_the_script_asks_where_it_is(lacking, tmp_path, torchrun):
    export(planned("gpt", "tp1-dp8", cluster="2x4xA100-80G"), EXECUTOR, tmp_path / "out")
    where = {"NODE_RANK": "1", "MASTER_ADDR": "first"}
    del where[lacking]
    done = launch(tmp_path / "out", torchrun, MEGATRON=str(tmp_path), **where)
    assert done.returncode != 0
    assert f"set {lacking}" in done.stderr


def test_attention_is_not_promised_to_be_fused_where_it_cannot_be(tmp_path):
    """Below compute capability 8.0 Transformer Engine has no fused attention, whatever was priced."""
    old, new = (planned("gpt", "tp1-dp8", cluster=f"8x{name}", precision="fp16") for name in ("V100-32G", "A100-80G"))
    assert "--attention-backend=unfused" in words(old)
    assert not any("attention-backend" in word for word in words(new))
    with open(export(old, EXECUTOR, tmp_path)[0]) as file:
        assert "priced with fused attention" in file.read()


def test_real_data_need_a_tokenizer(tmp_path, torchrun):
    export(planned("gpt", "tp1-dp8"), EXECUTOR, tmp_path / "out")
    settings = {"MEGATRON": str(tmp_path), "DATA_PATH": "/data/x"}
    lacking = launch(tmp_path / "out", torchrun, **settings)
    assert lacking.returncode != 0
    assert "set TOKENIZER" in lacking.stderr
    done = launch(tmp_path / "out", torchrun, TOKENIZER="--tokenizer-type X", **settings)
    said = json.loads(done.stdout)
    assert said[said.index("--data-path") :][:4] == ["--data-path", "/data/x", "--tokenizer-type", "X"]
    assert "--mock-data" not in said


def test_bert_runs_its_own_script_on_real_data(tmp_path, torchrun):
    export(planned("bert", "tp1-dp8"), EXECUTOR, tmp_path / "out")
    assert launch(tmp_path / "out", torchrun, MEGATRON=str(tmp_path)).returncode != 0
    done = launch(tmp_path / "out", torchrun, MEGATRON=str(tmp_path), DATA_PATH="/d", VOCAB_FILE="/v")
    assert "pretrain_bert.py" in json.loads(done.stdout)


def test_without_a_checkout_the_script_says_which(tmp_path, torchrun):
    export(planned("gpt", "tp1-dp8"), EXECUTOR, tmp_path / "out")
    done = launch(tmp_path / "out", torchrun)
    assert done.returncode != 0
    assert MEGATRON in done.stderr


def test_the_files_say_what_they_are_for(tmp_path):
    plan = planned("gpt", "tp1-dp8")
    files = export(plan, EXECUTOR, tmp_path)
    for file in files:
        with open(file) as opened:
            assert MEGATRON in opened.read()
    with open(files[0]) as opened:
        assert plan.seal in opened.read()
