"""Whole files: columns kept and written, errors per row, defaults stated, and predictions near published runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniap_core.errors import BadFile, BadValue, PluginError
from uniap_core.estimate import WRITTEN, calibrate_file, estimate, estimate_file, parse, predict, pricer, read_rows

EXCERPT = Path(__file__).parents[2] / "data" / "runs_excerpt.csv"
"""Published runs, each with its source (repository, commit, file)."""

ROW = {
    "row_id": "1",
    "gpu": "A100-80GB",
    "num_gpus": "16",
    "gpus_per_node": "8",
    "model": "llama",
    "layers": "8",
    "hidden": "2048",
    "heads": "16",
    "seq": "2048",
    "global_batch": "64",
    "micro_batch": "2",
    "tp": "2",
    "pp": "2",
    "dp": "4",
    "sharding": "zero1",
    "recompute": "none",
    "precision": "bf16",
    "mine": "kept",
}


def predicted(**changes: str) -> dict[str, str]:
    return estimate([ROW | changes])[0]


def seconds(**changes: str) -> float:
    row = predicted(**changes)
    assert row["pred_iter_time_s"], row["pred_note"]
    return float(row["pred_iter_time_s"])


def test_columns_are_kept_and_written(tmp_path: Path) -> None:
    count = estimate_file(EXCERPT, tmp_path / "out.csv")
    with EXCERPT.open(newline="") as before, (tmp_path / "out.csv").open(newline="") as after:
        old, new = csv.DictReader(before), csv.DictReader(after)
        pairs = list(zip(old, new, strict=True))
        assert list(new.fieldnames or ()) == [*(old.fieldnames or ()), *WRITTEN]
    assert all({k: b[k] for k in a} == a for a, b in pairs)
    assert count == sum(1 for _, row in pairs if row["pred_iter_time_s"])
    for _, row in pairs:
        if row["pred_iter_time_s"]:
            assert float(row["pred_iter_time_s"]) > 0
            assert float(row["pred_mem_gib"]) > 0
            assert row["pred_fits"] in ("true", "false")
        else:
            assert row["pred_note"].startswith("not predicted: ")
            assert row["pred_mem_gib"] == row["pred_fits"] == ""


def test_published_runs_are_predicted_within_a_quarter() -> None:
    checked = 0
    for row in estimate(read_rows(EXCERPT)[1]):
        measured = row["iter_time_s"] or row["iter_time_s_derived"]
        if measured and row["pred_iter_time_s"] and len(row["gpu"].split("+")) == 1:
            assert float(row["pred_iter_time_s"]) == pytest.approx(float(measured), rel=0.25), row["row_id"]
            checked += 1
    assert checked >= 12


def test_published_memory_is_predicted_within_a_twentieth() -> None:
    for row in estimate(read_rows(EXCERPT)[1]):
        if row["row_id"].startswith("simumax") and row["pred_mem_gib"]:
            assert float(row["pred_mem_gib"]) == pytest.approx(float(row["mem_gib"]), rel=0.06), row["row_id"]


@pytest.mark.parametrize(
    ("column", "written", "plain"),
    [
        ("recompute", "n/a", ""),
        ("vpp", "-", ""),
        ("recompute", "0", "none"),
        ("seq", "2K", "2048"),
        ("ep", "unknown", ""),
    ],
)
def test_spellings_of_nothing_and_of_numbers(column: str, written: str, plain: str) -> None:
    assert seconds(**{column: written}) == seconds(**{column: plain})


def test_fp4_is_priced_where_there_is_any_and_elsewhere_as_the_nearest_that_is_said() -> None:
    assert seconds(gpu="B200", precision="NVFP4") < seconds(gpu="B200", precision="fp8")
    row = predicted(gpu="H100", precision="NVFP4")
    assert "fp8 in place of nvfp4" in row["pred_note"]
    assert row["pred_iter_time_s"] == predicted(gpu="H100", precision="fp8")["pred_iter_time_s"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("FP8-MX", "mxfp8"),
        ("MXFP8", "mxfp8"),
        ("fp8 tensorwise", "fp8-tensorwise"),
        ("fp8cs", "fp8-tensorwise"),
        ("fp8 blockwise", "fp8-blockwise"),
        ("fp8 delayed", "fp8-delayed"),
        ("bf16 (fp8 was tried)", "bf16"),
        ("float8", "fp8"),
    ],
)
def test_recipes_are_known_as_sources_write_them(written: str, meant: str) -> None:
    assert parse(ROW | {"gpu": "B200", "precision": written}, []).candidate.training.precision == meant


def test_a_run_that_ran_out_of_memory_is_not_said_to_fit() -> None:
    for row in estimate(read_rows(EXCERPT)[1]):
        if "OOM" in row["mem_gib"]:
            assert row["pred_fits"] == "false"


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("gpu", "TPU v4", "TPU v4"),
        ("gpu", "", "gpu is blank"),
        ("layers", "", "layers is blank"),
        ("tp", "3", "does not divide"),
        ("dp", "8", "is not 16 devices"),
        ("num_gpus", "sixteen", "num_gpus"),
        ("num_gpus", "-4", "num_gpus"),
        ("hidden", "nan", "hidden"),
        ("global_batch", "63", "global_batch"),
        ("pp", "16", "stages"),
        ("sharding", "zero3 + full CPU offload", "offload"),
        ("model", "resnet-152", "image"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(column: str, value: str, word: str) -> None:
    changes = {column: value} | ({"tp": "1", "dp": "1"} if column == "pp" else {})
    row, other = estimate([ROW | changes, ROW])
    assert row["pred_iter_time_s"] == row["pred_mem_gib"] == row["pred_fits"] == ""
    assert word in row["pred_note"]
    assert other["pred_iter_time_s"]


@pytest.mark.parametrize(
    ("model", "layers", "hidden"),
    [("ViT-Huge", "", ""), ("vit-g", "40", "1408"), ("Swin-Huge", "", ""), ("swin", "32", "")],
)
def test_vision_models_are_known_by_name(model: str, layers: str, hidden: str) -> None:
    """Galvatron and UniAP report them; an image has no sequence and no vocabulary."""
    row = predicted(
        model=model, layers=layers, hidden=hidden, heads="", ffn="", vocab="", seq="", tp="1", pp="1", dp=""
    )
    assert float(row["pred_iter_time_s"]) > 0, row["pred_note"]
    assert "224 pixels" in row["pred_note"]


@given(st.dictionaries(st.sampled_from(list(ROW)), st.text(max_size=8)))
@settings(max_examples=40, deadline=None)
def test_no_text_in_any_column_stops_the_file(changes: dict[str, str]) -> None:
    row = predicted(**changes)
    assert row["pred_iter_time_s"] or row["pred_note"].startswith("not predicted")


def test_mixtures_of_experts_by_name() -> None:
    expert = {"model": "Mixtral-8x7B", "ffn": "7168", "ep": "4", "tp": "1", "dp": "8"}
    assert seconds(**expert) > 0
    assert "mixtral model cannot be built" in predicted(model="some-MoE")["pred_note"]


def test_experts_lie_on_their_own_grid() -> None:
    """What a row leaves out is tp, as in Megatron Core, or whole experts where that does not divide."""
    shape = {"model": "Mixtral-8x7B", "ffn": "7168", "tp": "4", "pp": "1", "dp": "4"}
    folded, told = predicted(**shape, ep="8"), predicted(**shape, ep="8", etp="1")
    assert "etp 1" in folded["pred_note"]
    assert folded["pred_iter_time_s"] == told["pred_iter_time_s"]
    cut = predicted(**shape, ep="4")
    assert "etp 4" in cut["pred_note"]
    assert cut["pred_iter_time_s"] == predicted(**shape, ep="4", etp="4")["pred_iter_time_s"]
    assert cut["pred_iter_time_s"] != predicted(**shape, ep="4", etp="1")["pred_iter_time_s"]


def test_experts_beyond_a_stage_are_taken_for_as_many_as_divide() -> None:
    shape = {"model": "Mixtral-8x7B", "ffn": "7168", "tp": "1", "pp": "4", "dp": "4"}
    wide, fine = predicted(**shape, ep="8"), predicted(**shape, ep="4")
    assert "ep 4 in place of 8" in wide["pred_note"]
    assert wide["pred_iter_time_s"] == fine["pred_iter_time_s"]
    assert (wide["pred_in_space"], fine["pred_in_space"]) == ("false", "true")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, ""),
        ({"cp": "2", "dp": "2", "tp": "2", "seq": "8192", "cp_kind": "p2p"}, ""),
        ({"cp": "2", "dp": "2", "tp": "2", "seq": "8192", "cp_kind": "a2a"}, "context parallelism by a2a"),
        ({"cp": "2", "dp": "2", "tp": "2"}, "cp 2: context parallelism is considered for sequences of 8192 or more"),
        ({"schedule": "zbv", "pp": "2", "dp": "4", "tp": "2"}, "schedule zbv: --schedule zbv searches it"),
        ({"tp": "16", "dp": "1", "pp": "1"}, "tp 16: tensor parallelism stays inside a node"),
        ({"recompute": "selective: core_attn"}, ""),
        ({"recompute": "selective: moe_act layernorm"}, "recomputation norm+activation is not searched"),
        ({"recompute": "selective: mhc"}, "recomputing mhc is not searched"),
        ({"expert_overlap": "yes"}, "experts' exchange behind another micro-batch"),
        ({"peft": "lora"}, ""),
        ({"peft": "none"}, ""),
        ({"precision": "nvfp4", "gpu": "B200"}, ""),
        ({"precision": "nvfp4", "gpu": "H100"}, "priced with fp8 in place of nvfp4"),
    ],
)
def test_a_row_says_whether_the_default_search_considers_its_plan(row: dict[str, str], reason: str) -> None:
    found = predicted(**({"vpp": "", "layers": "8", "system": "Megatron-Bridge"} | row))
    assert found["pred_iter_time_s"], found["pred_note"]
    assert found["pred_in_space"] == ("false" if reason else "true"), found["pred_why_not"]
    assert found["pred_why_not"].startswith(reason)
    assert bool(found["pred_why_not"]) == bool(reason)


def test_a_row_that_is_not_priced_says_nothing_of_the_space() -> None:
    found = predicted(gpu="no such thing")
    assert (found["pred_in_space"], found["pred_why_not"]) == ("", "")


def test_blanks_are_filled_by_names_and_rules() -> None:
    bare = {"gpu": "H100", "model": "Llama-2 7B", "num_gpus": "16", "dp": "2"}
    (row,) = estimate([bare])
    assert row["pred_iter_time_s"], row["pred_note"]
    for word in ("shape of llama2-7b", "tp 8, pp 1", "sequence 2048", "global batch 2", "sharding"):
        assert word in row["pred_note"]
    (row,) = estimate(
        [{"gpu": "A100", "model": "GPT", "layers": "8", "hidden": "1024", "tp": "2", "pp": "2", "dp": "2"}]
    )
    assert "8 devices" in row["pred_note"]
    assert row["pred_iter_time_s"]
    grouped = {"tp": "8", "dp": "1", "kv_heads": "4"}
    assert "repeated" in predicted(**grouped)["pred_note"]


def test_defaults_are_stated() -> None:
    bare = {k: v for k, v in ROW.items() if k not in ("gpus_per_node", "heads", "dp", "micro_batch", "precision")}
    assert "tf32" in estimate([bare | {"sharding": "", "recompute": ""}])[0]["pred_note"]
    note = estimate([bare | {"sharding": "none", "recompute": ""}])[0]["pred_note"]
    for word in ("devices per node", "heads", "dp 4", "micro-batch", "bf16", "recompute", "vocabulary"):
        assert word in note
    assert "assumed" in note


def test_faster_links_more_devices_and_less_work_are_never_slower() -> None:
    base = seconds(inter_bw="100 Gbps")
    assert seconds(inter_bw="800 Gbps") <= base
    assert seconds(gpu="H100") < base
    assert seconds(global_batch="128", inter_bw="100 Gbps") > base
    assert seconds(recompute="full", inter_bw="100 Gbps") > base
    assert seconds(layers="16", inter_bw="100 Gbps") > base


def test_interleaving_shrinks_the_bubble() -> None:
    few = {"global_batch": "32", "micro_batch": "2"}
    assert seconds(vpp="4", **few) < seconds(**few)


@pytest.mark.parametrize(
    ("schedule", "vpp", "planned"),
    [
        ("", "", "1f1b"),
        ("", "4", "interleaved"),
        ("1F1B", "2", "interleaved"),
        ("1f1b-interleaved", "", "interleaved"),
        ("zero-bubble", "", "zb-h1"),
        ("zbb", "2", "interleaved-zb"),
        ("zbv-formatted", "2", "zbv"),
        ("V-Half", "", "v-half"),
        ("v-min", "2", "v-min"),
        ("DualPipeV", "", "dualpipev"),
    ],
)
def test_a_stated_schedule_is_the_one_priced(schedule: str, vpp: str, planned: str) -> None:
    row = ROW | {"schedule": schedule, "vpp": vpp, "global_batch": "64", "micro_batch": "1"}
    assert parse(row, []).candidate.pipeline.schedule == planned
    assert predicted(**row)["pred_iter_time_s"]


def test_schedules_price_their_ramps_in_the_published_order() -> None:
    few = {"layers": "64", "pp": "4", "dp": "2", "global_batch": "16", "micro_batch": "1", "seq": "4096"}
    ramps = [seconds(schedule=name, **few) for name in ("zbv", "zb-h1", "v-half", "v-min", "1f1b")]
    assert ramps == sorted(ramps)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"schedule": "zigzag"}, "schedule is 'zigzag'"),
        ({"schedule": "zbv", "vpp": "3"}, "exactly two chunks"),
        ({"schedule": "dualpipev", "global_batch": "8", "micro_batch": "4"}, "micro-batches or more"),
    ],
)
def test_a_schedule_that_cannot_run_says_why(columns: dict[str, str], reason: str) -> None:
    assert reason in predicted(**columns)["pred_note"]


def test_unequal_devices_are_as_slow_as_the_slowest() -> None:
    wide = {"num_gpus": "8", "tp": "1", "pp": "2", "dp": "4", "gpus_per_node": "4", "precision": "fp16"}
    slow, mixed, fast = (seconds(gpu=gpu, **wide) for gpu in ("T4", "V100/T4 mix", "V100-32GB"))
    assert fast < mixed <= slow * 1.01


def test_more_sharding_never_needs_more_memory() -> None:
    plan = {"tp": "1", "pp": "1", "dp": "16", "micro_batch": "4"}
    found = [float(predicted(sharding=s, **plan)["pred_mem_gib"]) for s in ("none", "zero1", "zero2", "zero3")]
    assert found == sorted(found, reverse=True)


def test_the_bound_is_above_the_estimate() -> None:
    prediction = predict(parse(ROW, []), pricer())
    assert prediction.context_bytes > 0
    assert prediction.fits


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"1'])
def test_files_that_are_no_tables(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    if content.startswith(b"a"):
        assert estimate_file(path, tmp_path / "out.csv") == 0
    else:
        with pytest.raises(BadFile):
            estimate_file(path, tmp_path / "out.csv")
        assert not (tmp_path / "out.csv").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"none\.csv"):
        estimate_file(tmp_path / "none.csv", tmp_path / "out.csv")


def test_calibration_recovers_a_slower_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ROW | {"row_id": str(i), "micro_batch": str(m), "hidden": str(h)} for i, (m, h) in enumerate(CASES)]
    for row, guess in zip(rows, estimate(rows), strict=True):
        row["iter_time_s"] = str(1.2 * float(guess["pred_iter_time_s"]))
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = calibrate_file(path, tmp_path / "constants.toml")["ampere"]
    assert found.runs == len(rows)
    assert found.error_after < 0.5 * found.error_before
    low, high = found.intervals["matmul_share"]
    assert low < found.constants["matmul_share"] < high
    before = seconds()
    monkeypatch.setenv("UNIAP_CONSTANTS", str(tmp_path / "constants.toml"))
    assert seconds() > 1.05 * before


CASES = [(1, 2048), (2, 2048), (4, 2048), (2, 4096), (4, 4096), (2, 1024)]


def test_calibration_needs_measured_runs(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("row_id,gpu\n1,A100\n")
    with pytest.raises(BadValue, match="measured runs"):
        calibrate_file(path, tmp_path / "constants.toml")
    assert not (tmp_path / "constants.toml").exists()


def test_a_cost_model_without_constants_cannot_be_calibrated(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'profiled' cannot be calibrated") as caught:
        calibrate_file(EXCERPT, tmp_path / "constants.toml", "profiled")
    assert "analytic" in caught.value.fix
    assert not (tmp_path / "constants.toml").exists()
