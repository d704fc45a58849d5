"""A model in which nothing grows with a sequence has no tokens: none are printed, written, or asked for."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
from rich.console import Console

from uniap_core.advise import grid
from uniap_core.cluster import load
from uniap_core.errors import BadValue
from uniap_core.graph import at_sequence
from uniap_core.models import load as model
from uniap_core.plan import check_seal, read, to_file, write
from uniap_core.report.page import page
from uniap_core.report.terminal import print_plan
from uniap_core.search import make, sweep, tables_of
from uniap_core.verify import verify

VIT = "vit:layers=2,hidden=64,heads=4"
GPT = "gpt:layers=2,hidden=64,heads=4,seq=32"


@pytest.fixture(scope="module")
def pictures():
    return sweep(make(VIT, "2xV100-32G", 4)).plan


@pytest.fixture(scope="module")
def words():
    return sweep(make(GPT, "2xV100-32G", 4)).plan


def shown(plan) -> str:
    console = Console(record=True, width=200)
    print_plan(plan, console)
    return console.export_text()


def test_a_plan_without_a_sequence_has_no_tokens(pictures, words):
    assert not pictures.model.counts_positions
    assert pictures.predicted.tokens_per_s is None
    assert msgspec.json.decode(msgspec.json.encode(to_file(pictures)))["predicted"]["tokens_per_s"] is None
    assert words.predicted.tokens_per_s == pytest.approx(32 * words.predicted.samples_per_s)


def test_neither_terminal_nor_page_speaks_of_tokens(pictures, words):
    for text in (shown(pictures), page(pictures)):
        assert "samples/s" in text
        assert not any(word in text for word in ("tokens/s", "sequence ", " positions", "--seq"))
    assert "tokens/s" in shown(words)
    assert "sequence 32" in shown(words)
    assert "--seq 32" in page(words)


def test_a_grid_compares_by_samples():
    machines = [load(name) for name in ("1xV100-32G", "2xV100-32G")]
    points = grid.grid(make(VIT, machines[0], 4), machines, [4])
    assert [(p.tokens_per_s, p.tokens_per_s_per_device, p.price_per_million_tokens) for p in points] == [
        (None,) * 3
    ] * 2
    assert all(p.speed == p.samples_per_s == pytest.approx(4 / p.iteration_time_s) for p in points)
    assert points[0].pareto
    rows = list(csv.DictReader(io.StringIO(grid.to_csv(points))))
    assert [row["tokens_per_s"] for row in rows] == ["", ""]
    assert float(rows[0]["samples_per_s"]) == points[0].samples_per_s


def test_a_file_without_tokens_reads_and_holds(pictures, tmp_path):
    write(tmp_path / "plan.json", pictures)
    again = read(tmp_path / "plan.json")
    check_seal(again)
    assert again == pictures


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_figure_of_an_earlier_file_is_held_to_what_it_was(pictures, factor):
    tokens = factor * pictures.predicted.samples_per_s * pictures.sequence
    assert objective_holds(pictures, tokens) == (factor == 1.0)


def test_a_model_with_a_sequence_must_say_its_tokens(words):
    assert objective_holds(words, words.predicted.tokens_per_s)
    assert not objective_holds(words, None)


def objective_holds(plan, tokens: float | None) -> bool:
    predicted = msgspec.structs.replace(plan.predicted, tokens_per_s=tokens)
    verdict = verify(msgspec.structs.replace(plan.proposal, predicted=predicted), tables_of(plan), plan.proof)
    return next(check for check in verdict.checks if check.name == "objective").passed


def test_another_length_is_refused():
    with pytest.raises(BadValue, match="no sequence"):
        at_sequence(model(VIT), 512)
