"""The commands end to end: what they print, what they write, how they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OLD = Path(__file__).parents[1] / "data" / "v0_1"
SMALL = "gpt:layers=4,hidden=256,heads=8,seq=128"


def test_a_plan_reads_at_a_glance(uniap):
    done = uniap("plan", "bert-huge", "--cluster", "8xV100-32G", "--batch", 32)
    assert done.code == 0
    assert all(len(line) <= 80 for line in done.out.splitlines())
    for word in ("stage 0", "layers.", "GiB", "samples/s", "optimal over", "verified"):
        assert word in done.out


def test_json_is_one_document_and_nothing_else(uniap):
    done = uniap("plan", SMALL, "-c", "8xA100-40G", "-b", 16, "--json")
    plan = json.loads(done.out)
    assert plan["schema"] == "uniap.plan/1"
    assert plan["pp"] * len(plan["stages"][0]["ranks"]) == 8
    assert all(r["outcome"] in ("solved", "pruned", "infeasible", "impossible") for r in plan["proof"])
    assert all(check["passed"] for check in plan["verdict"]["checks"])


def test_json_leaves_out_nothing_that_is_said_of_the_request(uniap, tmp_path):
    boxes, old = tmp_path / "boxes.toml", tmp_path / "old.json"
    nodes = ('[[nodes]]\nkind = "A100-80G"\ndevices = 1\n', '[[nodes]]\nkind = "T4"\ndevices = 1\n')
    boxes.write_text('name = "boxes"\n' + "".join(nodes))
    asked = ("plan", "gpt:layers=2,hidden=512,heads=8,seq=256", "-c", boxes, "-b", 12, "--precision", "fp16")
    assert uniap(*asked, "-o", old).code == 0
    asked = (*asked, "--pin", "recompute=none", "--from", old)
    text, json_ = uniap(*asked), uniap(*asked, "--json")
    assert text.err
    for word in ("pins", "kept", "order"):
        said = [line.split(None, 1)[1] for line in text.out.splitlines() if line.startswith(f"  {word} ")]
        assert said
        assert [line.partition(": ")[2] for line in json_.err.splitlines() if line.startswith(f"{word}: ")] == said
    assert set(text.err.splitlines()) <= set(json_.err.splitlines())
    json.loads(json_.out)


def test_candidate_solve_verify(uniap, tmp_path):
    problem, result = tmp_path / "problem.json", tmp_path / "result.json"
    options = ("-c", "8xA100-40G", "-b", 16, "--pp", 2, "--micro-batches", 4, "-o", problem)
    assert uniap("candidate", SMALL, *options).code == 0
    assert json.loads(problem.read_text())["schema"] == "uniap.problem/1"
    done = uniap("solve", problem, "-o", result)
    assert done.code == 0
    assert "optimal" in done.out
    document = json.loads(result.read_text())
    assert document["schema"] == "uniap.result/1"
    assert document["gap"] <= 1e-9
    assert uniap("verify", problem, "--result", result).code == 0
    document["objective_s"] *= 0.9
    result.write_text(json.dumps(document))
    done = uniap("verify", problem, "--result", result)
    assert done.code == 1
    assert "FAIL" in done.out


def test_a_plan_file_verifies_and_an_edited_one_does_not(uniap, bert_plan, tmp_path):
    assert uniap("verify", bert_plan).code == 0
    document = json.loads(bert_plan.read_text())
    document["predicted"]["iteration_time_s"] *= 0.5
    (edited := tmp_path / "edited.json").write_text(json.dumps(document))
    done = uniap("verify", edited, "--json")
    assert done.code == 1
    failed = {check["name"] for check in json.loads(done.out)["checks"] if not check["passed"]}
    assert "seal" in failed
    assert len(failed) > 1


def test_pins_are_kept_and_priced(uniap):
    done = uniap("plan", SMALL, "-c", "8xA100-40G", "-b", 16, "--pin", "pp=4", "--pin", "layers.0-1:recompute=full")
    assert done.code == 0
    assert "4 stages" in done.out
    assert "recompute full" in done.out
    assert "pinning pp=4 costs" in done.out


def test_names_complete_in_a_shell(uniap):
    from typer.testing import CliRunner

    from uniap_core.cli import register

    environment = {"_UNIAP_COMPLETE": "complete_bash", "COMP_WORDS": "uniap plan llama-", "COMP_CWORD": "2"}
    done = CliRunner().invoke(register(), [], env=environment, prog_name="uniap")
    assert "llama-7b" in done.stdout


@pytest.mark.parametrize("field", ["global_batch", "sequence", "precision", "schedule"])
def test_a_plan_file_that_contradicts_itself_does_not_verify(uniap, bert_plan, tmp_path, field):
    document = json.loads(bert_plan.read_text())
    document[field] = document[field] * 2
    (edited := tmp_path / "edited.json").write_text(json.dumps(document))
    done = uniap("verify", edited, "--json")
    assert done.code == 1
    assert {check["name"] for check in json.loads(done.out)["checks"] if not check["passed"]} == {"document", "seal"}
    done = uniap("explain", edited)
    assert done.code == 1
    assert f"its {field} is {document[field]}" in done.err


def test_a_measured_plan_is_asked_about_with_its_profile(uniap, tmp_path):
    small, profile, plan = "gpt:layers=2,hidden=64,heads=4,vocab=128,seq=32", OLD / "profile.json", tmp_path / "p.json"
    options = ("-c", "4xA100-80G", "-b", 8, "--precision", "fp32", "--cost-model", "profiled", "--profile", profile)
    assert uniap("plan", small, *options, "-o", plan).code == 0
    done = uniap("explain", plan, "--why-not", "dp=2")
    assert done.code == 2
    assert "priced from measurements" in done.err
    assert "--profile" in done.err
    done = uniap("explain", plan, "--why-not", "dp=2", "--profile", profile)
    assert done.code == 0
    assert "slower" in done.out
    page = tmp_path / "report.html"
    assert uniap("report", plan, "-o", page).code == 0
    assert "alternatives were not priced" in page.read_text()
    assert uniap("report", plan, "--profile", profile, "-o", page).code == 0
    assert "alternatives were not priced" not in page.read_text()
    assert "pp=2: " in page.read_text()


def test_explain_diff_timeline_report(uniap, bert_plan, tmp_path):
    done = uniap("explain", bert_plan, "--layer", "layers.3", "--why-not", "pp=4")
    assert done.code == 0
    assert "layers.3 is on stage" in done.out
    assert "% slower" in done.out
    other = tmp_path / "other.json"
    uniap("plan", "bert-huge", "-c", "8xV100-32G", "-b", 32, "--pin", "pp=2", "-o", other)
    done = uniap("diff", bert_plan, other)
    assert done.code == 0
    assert "stages: 1 -> 2" in done.out
    trace = tmp_path / "trace.json"
    assert uniap("timeline", other, "-o", trace).code == 0
    assert json.loads(trace.read_text())["traceEvents"]
    page = tmp_path / "report.html"
    assert uniap("report", other, "-o", page, "--no-what-if").code == 0
    assert "Reproduce" in page.read_text()


def test_sweep_marks_the_front(uniap, tmp_path):
    table = tmp_path / "sweep.csv"
    done = uniap("sweep", SMALL, "-c", "8xA100-40G", "-c", "4xRTX3090", "-b", 16, "-b", 32, "--csv", table)
    assert done.code == 0
    assert "*" in done.out
    assert len(table.read_text().splitlines()) == 5


def test_replanning_keeps_what_it_can(uniap, tmp_path):
    old = tmp_path / "old.json"
    uniap("plan", SMALL, "-c", "8xA100-40G", "-b", 16, "-o", old)
    done = uniap("plan", SMALL, "-c", "4xA100-40G", "-b", 16, "--from", old)
    assert done.code == 0
    assert "kept" in done.out


@pytest.mark.parametrize("what", ["models", "clusters", "plugins"])
def test_lists(uniap, what):
    assert uniap(what).code == 0
    assert json.loads(uniap(what, "--json").out)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("plan", "lama-7b", "-c", "8xA100-40G", "-b", 32), 2, ("no model named 'lama-7b'", "llama-7b")),
        (("plan", "llama-7b", "-c", "8xA1000", "-b", 32), 2, ("no device kind", "A100-40G")),
        (("plan", "llama-7b", "-c", "8xA100-40G", "-b", 32, "--solver", "dq"), 2, ("no solver named", "dp")),
        (("plan", "llama-7b", "-c", "8xA100-40G", "-b", 32, "--cost-model", "x"), 2, ("no cost model", "analytic")),
        (("plan", "llama-7b", "-c", "8xA100-40G", "-b", 32, "--executor", "x"), 2, ("no executor", "fsdp")),
        (
            ("plan", "llama-7b", "-c", "8xA100-40G", "-b", 32, "--pin", "pp=3"),
            2,
            ("considers pp 1, 2, 4, 8",),
        ),
        (("plan", "llama-7b", "-c", "8xA100-40G", "-b", 32, "--pin", "cp=2"), 2, ("the search considers cp 1",)),
        (
            ("plan", "bert-huge", "-c", "8xV100-32G", "-b", 32, "--executor", "fsdp", "--precision", "fp16"),
            2,
            ("fp32",),
        ),
        (("plan", "llama-7b", "-c", "8xA100-40G", "-b", 32, "--pin", "speed=3"), 2, ("is not a pin",)),
        (("plan", "llama-7b", "-c", "8xA100-40G", "-b", 32, "--schedule", "x"), 2, ("no schedule", "1f1b")),
        (("plan", "llama-7b", "-c", "8xV100-32G", "-b", 32, "--precision", "fp8"), 2, ("fp8", "fp16")),
        (
            ("plan", "llama-7b", "-c", "8xA100-40G", "-b", 7, "--pin", "pp=1", "--pin", "tp=1"),
            2,
            ("considered are pp",),
        ),
        (("plan", "llama2-70b", "-c", "8xA100-40G", "-b", 8), 1, ("no plan fits", "GiB", "verified by a solve")),
        (("candidate", SMALL, "-c", "8xA100-40G", "-b", 32, "--pp", 3, "--micro-batches", 2), 2, ("do not divide",)),
        (("candidate", SMALL, "-c", "8xA100-40G", "-b", 32, "--pp", 2, "--micro-batches", 5), 2, ("do not divide",)),
        (("solve", "nothing.json"), 2, ("does not exist",)),
        (("verify", "nothing.json"), 2, ("does not exist",)),
        (("explain", "nothing.json"), 2, ("does not exist",)),
        (("export", "nothing.json", "--to", "megatron", "-o", "x"), 2, ("does not exist",)),
    ],
)
def test_a_mistake_gets_one_message_with_a_remedy(uniap, arguments, code, words):
    done = uniap(*arguments)
    assert done.code == code, done.err
    for word in words:
        assert word in done.err
    assert "fix:" in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    document = json.loads(uniap(*arguments, "--json").out)
    assert set(document) == {"error", "cause", "fix"}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda t: t[: len(t) // 2], ("not a complete JSON document",)),
        (lambda t: t.replace('"micro_batches"', '"micro_botches"', 1), ("micro_botches",)),
        (lambda t: t.replace('"reserved_bytes": ', '"reserved_bytes": -', 1), ("reserved_bytes", "0 or more")),
        (lambda t: t.replace("uniap.problem/1", "uniap.problem/9"), ("schema",)),
        (lambda t: "", ("not a complete JSON document",)),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_is_written(uniap, tmp_path, damage, words):
    problem, result = tmp_path / "problem.json", tmp_path / "result.json"
    uniap("candidate", SMALL, "-c", "8xA100-40G", "-b", 16, "--pp", 2, "--micro-batches", 4, "-o", problem)
    problem.write_text(damage(problem.read_text()))
    done = uniap("solve", problem, "-o", result)
    assert done.code == 2
    for word in words:
        assert word in done.err
    assert not result.exists()


def test_an_unwritable_output_is_a_clear_error(uniap):
    done = uniap("plan", SMALL, "-c", "8xA100-40G", "-b", 16, "-o", "/no/such/folder/plan.json")
    assert done.code == 2
    assert "cannot be written" in done.err


def test_listing_models_loads_nothing_heavy():
    code = (
        "import sys; from uniap_core.cli import register\n"
        "try: register()(['models'])\n"
        "except SystemExit: pass\n"
        "from uniap_core.cli.lists import counted; counted()\n"  # what its process does
        "heavy = {'numba', 'torch', 'highspy', 'pyscipopt', 'ortools', 'gurobipy', 'pulp', 'scipy', 'networkx'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_message_that_quotes_a_long_word_fits_a_screen(uniap):
    asked = ("plan", "m" * 100_000, "-c", "8xA100-40G", "-b", 1)
    done = uniap(*asked)
    assert "error[unknown-name]" in done.err
    assert "more characters" in done.err
    assert len(done.err) < 10_500
    assert "m" * 100_000 in json.loads(uniap(*asked, "--json").out)["cause"]


def test_no_traceback_reaches_a_person_from_a_real_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from uniap_core.cli import main; main()", "plan", "x", "-c", "8xA100-40G", "-b", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 2
    assert "error[unknown-name]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("json", [[], ["--json"]])
def test_a_full_or_closed_or_narrow_stdout_is_no_traceback(json):
    command = [sys.executable, "-m", "uniap_core", "clusters", *json]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "stdout cannot be written: No space left" in done.stderr
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")
    for encoding in ("latin-1", "ascii"):
        environment = dict(os.environ, PYTHONIOENCODING=encoding)
        narrow = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert (narrow.returncode, narrow.stderr) == (0, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "bert-huge", "-c", "8xV100-32G", "-b", 32, "-o"),
        ("candidate", "bert-huge", "-c", "8xV100-32G", "-b", 32, "--pp", 2, "--micro-batches", 2, "-o"),
        ("sweep", "bert-huge", "-c", "8xV100-32G", "-b", 32, "--csv"),
        ("sweep", "bert-huge", "-c", "8xV100-32G", "-b", 32, "--plot"),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_the_work(uniap, monkeypatch, tmp_path, arguments):
    from uniap_core import models

    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("work was begun"))
    done = uniap(*arguments, tmp_path / "nowhere" / "file")
    assert done.code == 2
    assert "cannot be written: there is no folder" in done.err


def test_folders_that_cannot_be_written_are_found_before_the_work(uniap, bert_plan):
    for arguments in (("export", bert_plan, "--to", "fsdp", "-o"), ("run", bert_plan, "--checkpoint")):
        done = uniap(*arguments, bert_plan / "folder")
        assert done.code == 2
        assert "is no folder" in done.err


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_plan_that_cannot_be_written_after_all_is_printed(uniap, form):
    done = uniap("plan", "bert-huge", "-c", "8xV100-32G", "-b", 32, "-o", "/dev/full", *form)
    assert done.code == 2
    assert "No space left" in done.err
    assert json.loads(done.out)["schema"] == "uniap.plan/1"
