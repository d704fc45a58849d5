"""MODEL arguments: names, files, tracers, and what goes wrong."""

from __future__ import annotations

import pytest

from uniap_core import artifact, models, registry
from uniap_core.errors import BadFile, UnknownName


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
