"""A plan whose seal was computed again is judged again: what is launched is what was priced."""

import json

import pytest
from typer.testing import CliRunner

from bench.leaves import admitted, faults, read_document, rehash
from tests.planned import planned
from uniap_core import artifact, gate
from uniap_core import plan as plans
from uniap_core.cli import register
from uniap_core.errors import BadFile, Unverified
from uniap_core.export import export
from uniap_core.graph import ModelGraph
from uniap_core.search import make, sweep


@pytest.fixture(scope="module")
def plan():
    return planned("llama", "tp2-dp2-sp", cuts=(4,), micro_batches=4)


def forged(plan, change):
    """The plan with its document changed, its hashes, its verdict and its seal computed again."""
    document = json.loads(artifact.encode(plans.to_file(plan)))
    change(document)
    return rehash(read_document(document))


def put(*path, value):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        assert not isinstance(document, dict) or document.get(path[-1]) != value
        document[path[-1]] = value

    return change


def test_an_honest_plan_passes(plan):
    gate.admit(plan)
    gate.admit(forged(plan, lambda document: None))
    assert gate.doubts(plan) == ()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("model", "architecture", "heads"), 4),
        (("model", "architecture", "kv_heads"), 8),
        (("model", "architecture", "head_size"), 64),
        (("model", "architecture", "vocab"), 999),
        (("model", "architecture", "ffn"), 1024),
        (("model", "architecture", "layers"), 5),
        (("model", "architecture", "tied"), True),
        (("model", "architecture", "norm"), "layer"),
        (("model", "architecture", "activation"), "gelu"),
        (("model", "architecture", "qkv_bias"), True),
        (("model", "architecture", "mlp_bias"), True),
        (("model", "architecture", "qk_norm"), "head"),
        (("model", "architecture", "rotary_base"), 5e5),
        (("model", "architecture", "kernels"), "fused"),
        (("model", "layers", 1, "operators", 3, "causal"), False),
        (("cluster", "nodes", 0, "link", "bandwidth_Bps"), 1e15),
        (("cluster", "nodes", 0, "device", "memory_bytes"), 1e3),
        (("stages", 0, "memory_bytes"), 8e11),
        (("stages", 1, "in_flight"), 2),
        (("layers", 1, "sequence_parallel"), False),
        (("hashes", "tables"), "sha256:0"),
        (("global_batch",), 16000),
        (("predicted", "iteration_time_s"), 1e-3),
    ],
)
def test_a_forged_plan_reaches_neither_a_device_nor_a_script(plan, path, value, tmp_path):
    with pytest.raises(Unverified):
        gate.admit(forged(plan, put(*path, value=value)))
    with pytest.raises(Unverified):
        export(forged(plan, put(*path, value=value)), "megatron", tmp_path)


@pytest.mark.parametrize("family", ["llama", "gpt", "bert", "mixtral"])
def test_without_a_source_the_operators_still_tell(family):
    """Whoever drops the source cannot change what the operators show."""
    honest = planned(family, "tp1-dp8")
    own = forged(honest, put("model", "source", value=""))
    gate.admit(own)
    for name, value in (
        ("heads", 2),
        ("vocab", 7),
        ("ffn", 64),
        ("hidden", 128),
        ("layers", 1),
        ("qkv_bias", family in ("llama", "mixtral")),
    ):
        with pytest.raises(Unverified, match="architecture"):
            gate.admit(forged(own, lambda d, n=name, v=value: d["model"]["architecture"].__setitem__(n, v)))


@pytest.mark.parametrize("family", ["llama", "gpt"])
def test_no_leaf_that_matters_can_be_changed(family):
    made = planned(family, "tp2-dp2-sp", cuts=(4,), micro_batches=4)
    tried, through = admitted(made, most=1)
    assert tried > 150
    assert faults(through) == {}


def test_looking_at_an_edited_plan_says_so(plan, tmp_path):
    document = json.loads(artifact.pretty(plans.to_file(plan)))
    document["predicted"]["iteration_time_s"] /= 2
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    for arguments in (
        ["explain", path],
        ["diff", path, path],
        ["timeline", path, "-o", tmp_path / "trace.json"],
        ["report", path, "-o", tmp_path / "page.html", "--no-what-if"],
    ):
        done = CliRunner().invoke(register(), [*map(str, arguments)])
        assert "the plan was edited after it was verified" in done.stderr, arguments
    page = (tmp_path / "page.html").read_text()
    assert "This plan does not hold" in page
    assert "; all passed." not in page


def test_keys_come_once_and_a_document_names_its_schema(plan):
    text = artifact.encode(plan.model).decode()
    with pytest.raises(BadFile, match="'name' twice"):
        artifact.decode(text.replace('"name":', '"name":"x","name":', 1), ModelGraph)
    with pytest.raises(BadFile, match="names no schema"):
        artifact.decode(text.replace('"schema":"uniap.graph/1",', "", 1), ModelGraph)


@pytest.mark.parametrize("options", [{"executor": "megatron"}, {"executor": "torchtitan"}, {"system": "nemo"}])
def test_a_plan_for_some_software_is_of_the_model_that_its_source_builds(options):
    """Kernels follow the software that was planned for; the model is the same."""
    found = sweep(make("llama:layers=2,hidden=128,heads=4,ffn=256,vocab=512,seq=64", "4xA100-80G", 8, **options))
    gate.admit(found.plan)
