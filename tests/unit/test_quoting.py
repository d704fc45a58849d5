"""Whatever a name is, the language that it is written into reads a name."""

import ast
import csv
import io
import json
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests import planned as plans
from uniap_core import artifact, quoting
from uniap_core.cli.screen import Screen, shown
from uniap_core.export import export

HOSTILE = (
    'lab\ntouch PWNED\n#"""\nimport os; os.system("touch PWNED")\n"""',
    '" + str(__import__("os").system("touch PWNED")) + "',
    "$(touch PWNED)`touch PWNED`\r\n\x1b]0;title\x07\x1b[2J\u202e\u2028",
    '=HYPERLINK("http://x")\x00\'\\',
)
NAMES = st.text(max_size=40) | st.sampled_from(HOSTILE)


@given(NAMES)
def test_a_line_is_a_line_and_a_name_without_surprises_stays(name):
    text = quoting.line(name)
    assert len(f"x{text}x".splitlines()) == 1
    assert "\x1b" not in text
    assert "\x1b" not in quoting.terminal(name)
    assert quoting.line("Llama 3 (8B), größer") == "Llama 3 (8B), größer"


@given(NAMES.filter(lambda text: "\x00" not in text))
def test_python_toml_and_json_read_the_name_back(name):
    assert ast.literal_eval(quoting.literal(name)) == name
    assert json.loads(quoting.json(json.dumps(name, ensure_ascii=False))) == name
    if not any("\ud800" <= c <= "\udfff" for c in name):
        assert tomllib.loads(f"{quoting.toml_key(name)} = {quoting.toml(name)}") == {name: name}


@example(HOSTILE[2])
@given(st.text(max_size=20))
def test_a_shell_takes_one_word(name):
    word = quoting.shell(name)
    done = subprocess.run(["sh", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout.decode(errors="surrogateescape") == quoting.line(name)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd", "\t=1", "  =x"])
def test_a_spreadsheet_sees_no_formula(text):
    assert quoting.cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "-", "-1.5e-3", "+7", "gpt2", "1e5", "-inf", "a=b", "n/a"])
def test_other_cells_stay(text):
    assert quoting.cell(text) == text


def test_html_is_text():
    assert quoting.html("<b>\x1b") == "&lt;b&gt;�"


def test_a_screen_lets_colors_through_to_a_terminal_alone():
    text = "\x1b[1;32mfine\x1b[0m \x1b[8mhidden \x1b[2J\x9b1A\n"
    assert shown(text, colored=True) == "\x1b[1;32mfine\x1b[0m �[8mhidden �[2J�1A\n"
    assert shown(text, colored=False) == "�[1;32mfine�[0m �[8mhidden �[2J�1A\n"
    behind = io.StringIO()
    print("a\x1b[2Jb", file=Screen(behind))
    assert behind.getvalue() == "a�[2Jb\n"


# --- exports --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=HOSTILE)
def hostile_plan(request, monkeypatch):
    """A plan whose model, cluster and layers have names that another language would obey."""
    import msgspec

    machine = plans.preset("8xA100-80G")
    monkeypatch.setattr(plans, "preset", lambda name: msgspec.structs.replace(machine, name=request.param))
    graph = msgspec.structs.replace(plans.load(plans.SMALL["llama"]), name=request.param)
    return plans.planned(graph, "tp1-dp8")


@pytest.mark.parametrize("executor", ["megatron", "torchtitan", "fsdp"])
def test_no_name_runs_in_an_exported_script(hostile_plan, executor, tmp_path):
    if executor == "fsdp":
        pytest.importorskip("torch")
    files = export(hostile_plan, executor, tmp_path)
    for path in files:
        text = Path(path).read_text()
        if path.endswith(".py"):
            tree = ast.parse(text)
            called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            assert not {"__import__", "os.system"} & called, path
        if path.endswith(".sh"):
            # Nothing but comments comes before the first setting, and the shell stops at the first one that is missing.
            before = text.partition("set -euo pipefail")[0]
            assert all(row.startswith("#") for row in before.split("\n") if row), before
            done = subprocess.run(["bash", path], cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/bin"})
            assert done.returncode != 0
        if path.endswith(".txt"):
            assert all(row.startswith(("#", "--")) or row[0].isalnum() for row in text.split("\n") if row)
    assert not list(tmp_path.rglob("PWNED*"))


def test_a_table_of_predictions_has_no_formulas(tmp_path):
    from uniap_core.estimate import estimate_file

    source, target = tmp_path / "runs.csv", tmp_path / "out.csv"
    source.write_text("model,num_gpus,note\n\"=cmd|' /C calc'!A0\",8,-3\n")
    estimate_file(source, target)
    (row,) = csv.DictReader(io.StringIO(target.read_text()))
    assert (row["model"][0], row["note"]) == ("'", "-3")


def test_a_graph_file_with_such_a_name_prints_harmlessly(tmp_path, capsys):
    from typer.testing import CliRunner

    from uniap_core.cli import register

    graph = json.loads(artifact.pretty(plans.load(plans.SMALL["llama"])))
    (tmp_path / "graph.json").write_text(json.dumps(graph | {"name": "x\x1b[2J\ny"}))
    done = CliRunner().invoke(register(), ["plan", str(tmp_path / "graph.json"), "-c", "8xA100-80G", "-b", "16"])
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert r"x\x1b[2J\ny on" in done.stdout
