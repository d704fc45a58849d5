"""Real processes and real signals: commands end, deliver what they have, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import interrupts
from uniap_core import warden

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks processes up in /proc"),
]

HANG_S = 120
"""Far beyond what anything here takes: only a hang exceeds it."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return interrupts.prepare(tmp_path_factory.mktemp("interrupts"))


@pytest.fixture(autouse=True, scope="module")
def heedful():
    """Signals as a terminal's children have them, even where the tests were started deaf to them (nohup, ``&``)."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start(tmp_path, *arguments):
    """A command with a mark on it, and the mark."""
    (tmp_path / "tmp").mkdir()
    mark = f"UNIAP_TRIAL={tmp_path}"
    environment = dict(os.environ, TMPDIR=str(tmp_path / "tmp"), UNIAP_TRIAL=str(tmp_path))
    process = subprocess.Popen(
        [*interrupts.UNIAP, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    return process, mark


def until(condition):
    ends = time.monotonic() + HANG_S
    while not (found := condition()):
        assert time.monotonic() < ends
        time.sleep(0.02)
    return found


def end(process, number):
    process.send_signal(number)
    out, err = process.communicate(timeout=HANG_S)
    assert "Traceback" not in err
    return process.returncode, out, err


def nothing_left(mark, tmp_path):
    until(lambda: not interrupts.marked(mark))
    until(lambda: not list((tmp_path / "tmp").glob("uniap-*")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_solve_delivers_the_best_so_far_and_takes_its_solver_along(tmp_path, files, number):
    result = tmp_path / "result.json"
    process, mark = start(tmp_path, "solve", files["hard"], "--solver", "cbc", "-o", result)
    until(lambda: any("/cbc " in words for words in interrupts.marked(mark).values()))
    code, _, err = end(process, number)
    assert code == 0
    assert "interrupted" in err
    document = json.loads(result.read_text())
    assert document["stop"] == "interrupted"
    assert document["assignment"]
    nothing_left(mark, tmp_path)


@pytest.mark.parametrize("command", [["compare", "--solvers", "cbc,highs,dp"], ["solve", "--solver", "cbc"]])
def test_what_a_killed_command_started_dies_with_it(tmp_path, files, command):
    process, mark = start(tmp_path, command[0], files["problem"], *command[1:])
    until(lambda: list((tmp_path / "tmp").glob("uniap-worker-*")))
    code, _, _ = end(process, signal.SIGKILL)
    assert code == -signal.SIGKILL
    nothing_left(mark, tmp_path)


def test_an_interrupt_ends_a_comparison_and_not_one_solver_of_it(tmp_path, files):
    process, mark = start(tmp_path, "compare", files["problem"], "--solvers", "cbc,highs,dp", "--time-limit", "600")
    until(lambda: list((tmp_path / "tmp").glob("uniap-worker-*")))
    code, out, _ = end(process, signal.SIGINT)
    assert code == 130
    assert " dp " not in out
    nothing_left(mark, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_keeps_what_it_has_and_says_that_it_was_interrupted(tmp_path, number):
    table = tmp_path / "table.csv"
    batches = [argument for batch in range(8, 4000, 8) for argument in ("-b", batch)]
    model = "gpt:layers=6,hidden=512,heads=8,seq=256"
    process, mark = start(tmp_path, "sweep", model, "-c", "8xV100-32G", *batches, "--csv", table)
    until(lambda: table.exists() and len(table.read_text().splitlines()) > 2)
    code, out, err = end(process, number)
    assert code == 128 + number
    assert "interrupted" in err
    assert "8xV100-32G" in out
    assert 2 < len(table.read_text().splitlines()) < 490
    assert not list(tmp_path.glob(".table*"))
    nothing_left(mark, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_side_by_side_end_with_their_plan(tmp_path, number, monkeypatch):
    process, mark = start(tmp_path, "plan", "t5-large", "-c", "4x8xA100-80G", "-b", 64, "--workers", 2)
    if len(os.sched_getaffinity(0)) > 1:
        until(lambda: any("search.crew" in words for words in interrupts.marked(mark).values()))
    code, _, _ = end(process, number)
    assert code in (0, 128 + number, -number)
    nothing_left(mark, tmp_path)


def test_a_second_interrupt_does_not_wait(tmp_path):
    code = (
        "import time\nfrom uniap_core import interrupts\ninterrupts.arm()\n"
        "try:\n  print('up', flush=True); time.sleep(600)\n"
        "except KeyboardInterrupt:\n"
        "  interrupts.worthwhile(); print('first', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "first\n"
    time.sleep(2 * 0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(HANG_S) == 143
    process.stdout.close()


def test_a_process_that_does_not_heed_an_interrupt_is_ended():
    code = (
        "import time\nfrom uniap_core import interrupts\ninterrupts.arm()\n"
        "try:\n  print('up', flush=True); time.sleep(600)\nexcept KeyboardInterrupt:\n  time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(HANG_S) == 130
    process.stdout.close()


def test_the_warden_ends_groups_and_removes_folders(tmp_path):
    folder = tmp_path / "a folder"
    (folder / "deep").mkdir(parents=True)
    kept = tmp_path / "kept"
    kept.mkdir()
    # A sleeper in a session of its own, and a child of it in another.
    inner = "import subprocess, sys, time; subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"
    code = (
        "import os, signal, subprocess, sys, time\nfrom uniap_core import warden\n"
        f"child = subprocess.Popen([sys.executable, '-c', {inner!r}], start_new_session=True)\n"
        f"warden.watch(group=child.pid, folder={str(folder)!r})\n"
        f"warden.watch(folder={str(kept)!r}); warden.release(folder={str(kept)!r})\n"
        "time.sleep(1)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ, UNIAP_TRIAL=str(tmp_path)))
    assert process.wait(HANG_S) == -signal.SIGKILL
    until(lambda: not interrupts.marked(f"UNIAP_TRIAL={tmp_path}"))
    until(lambda: not folder.exists())
    assert kept.exists()


def test_a_warden_that_is_gone_is_no_error(tmp_path):
    warden.watch(folder=tmp_path / "a")
    process = warden._process
    process.kill()
    process.wait()
    warden.watch(folder=tmp_path / "b")
    warden.release(folder=tmp_path / "b")
    warden.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_leaves_nothing_when_its_launcher_is_killed(tmp_path, files, number):
    process, mark = start(tmp_path, "run", files["small"], "--steps", "100000", "--device", "cpu")
    try:
        until(lambda: any("-u -m uniap_fsdp.worker" in line for line in interrupts.marked(mark).values()))
        agent = next(pid for pid, line in interrupts.marked(mark).items() if "sys.argv[0] = 'torchrun'" in line)
        os.kill(agent, signal.SIGSTOP)  # it cannot tidy up: it has to be killed
        end(process, number)
        nothing_left(mark, tmp_path)
        until(lambda: not list((tmp_path / "tmp").glob("torchelastic*")))
    finally:
        for pid in interrupts.marked(mark):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", [3])
def test_random_interrupts_leave_nothing(files, seed):
    for command, number, after_s in interrupts.draw(6, seed, 6.0):
        trial = interrupts.trial(command, number, after_s, files)
        assert trial.clean, trial
