"""MODEL arguments: names, files, tracers, and what goes wrong."""

from __future__ import annotations

import sys

import pytest

from uniap_core import artifact, models, registry
from uniap_core.errors import BadFile, PluginError, UnknownName
from uniap_core.events import Progress
from uniap_core.search import make


def test_a_zoo_name_and_a_family():
    assert models.load("bert-huge").parameters == 672_721_724
    assert len(models.load("gpt:layers=4,hidden=256,heads=8,seq=128").layers) == 6


def test_a_graph_file_at_another_sequence(tmp_path):
    graph = models.load("llama-7b")
    artifact.write(tmp_path / "llama.json", graph)
    again = models.load(str(tmp_path / "llama.json"), 4096)
    assert (again.sequence, again.parameters) == (4096, graph.parameters)
    assert again.flops(1) > 2 * graph.flops(1)


def test_close_names_are_suggested():
    with pytest.raises(UnknownName) as caught:
        models.load("lama-7b")
    assert "llama-7b" in caught.value.fix


def test_a_missing_file_is_a_missing_file():
    with pytest.raises(BadFile, match="does not exist"):
        models.load("nothing.json")


def test_a_broken_model_plugin_hides_no_other(tmp_path, monkeypatch):
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[uniap.models]\naaa = a_module_that_does_not_exist:MODELS\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.load.cache_clear()
    assert "aaa" in registry.names("model")
    assert models.load("bert-base").name == "bert-base"
    assert any(row.name == "llama-7b" for row in models.rows())


MINE = """
from uniap_core.api import Hyperparameters, ModelPlugin

MODELS = ModelPlugin(
    name="mine", summary="mine", build="mine:build", published="mine:published", from_hyperparameters="mine:graph",
    profile="mine:profile", modules=({modules}), install="pip install mine", handles="mine .+",
)

def build(name, sequence, emit):
    from uniap_core.api import Progress
    from uniap_core import models
    emit(Progress(1.0, 0, 2, name))
    return models.load("gpt:layers=2,hidden=64,heads=4,seq=16")

def published(name):
    return ("tiny", Hyperparameters(layers=2, hidden=64, heads=4)) if name == "my-Tiny" else None

def graph(name, sizes, notes, granule, kernels):
    from uniap_core import models
    notes.append("assumed by mine")
    return models.load(f"gpt:layers={{sizes.layers}},hidden=64,heads=4,seq=16") if name == "my-Tiny" else None

def profile(*found, **more):
    return found
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Install a model plugin that is asked before the zoo; gives a function that writes it."""
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[uniap.models]\nmine = mine:MODELS\n")

    def write(modules=""):
        (tmp_path / "mine.py").write_text(MINE.format(modules=modules))
        monkeypatch.syspath_prepend(str(tmp_path))
        registry.load.cache_clear()
        models._declared.cache_clear()

    yield write
    sys.modules.pop("mine", None)
    registry.load.cache_clear()
    models._declared.cache_clear()


def test_what_a_plugin_publishes_fills_rows_and_what_it_does_not_is_left_to_the_next(mine):
    mine()
    notes = []
    found = models.published("my-Tiny")
    assert found == ("tiny", models.Hyperparameters(2, 64, 4))
    assert len(models.from_hyperparameters("my-Tiny", found[1], notes).layers) == 4
    assert notes == ["assumed by mine"]
    assert models.published("Llama-3-8B")[0] == "llama3-8b"
    assert models.from_hyperparameters("gpt", models.Hyperparameters(2, 64, 4), []).family == "gpt"


def test_what_takes_long_to_build_tells_of_its_progress(mine):
    mine()
    told = []
    models.load("mine model", emit=told.append)
    make("mine model", "8xA100-80G", 8, emit=told.append)
    assert [(event.label, event.total) for event in told if isinstance(event, Progress)] == [("mine model", 2)] * 2


def test_the_profiler_is_the_one_that_a_plugin_declares(mine):
    mine()
    assert models.profiler()(1, 2) == (1, 2)


def test_a_profiler_that_lacks_what_it_needs_says_how_to_get_it(mine):
    mine('"no_module_of_this_name",')
    with pytest.raises(PluginError, match="no_module_of_this_name") as caught:
        models.profiler()
    assert caught.value.fix == "pip install mine"


def test_without_a_plugin_for_them_hyperparameters_make_no_graph(monkeypatch):
    monkeypatch.setenv("UNIAP_DISABLE", "zoo,torch")
    models._declared.cache_clear()
    with pytest.raises(UnknownName, match="no plugin builds"):
        models.from_hyperparameters("gpt", models.Hyperparameters(2, 64, 4), [])
    with pytest.raises(PluginError, match="no plugin measures"):
        models.profiler()
    models._declared.cache_clear()
