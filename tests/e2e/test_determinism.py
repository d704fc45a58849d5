"""The same request gives the same bytes, apart from times: under any hash seed and with any number of workers."""

import json
import os
import subprocess
import sys

import pytest

LLAMA = "llama:layers=4,hidden=256,heads=8,kv_heads=4,ffn=512,vocab=1000,seq=128"
REQUESTS = {
    "tight": ["plan", "gpt2", "-c", "1x4xTITANXp-12G", "-b", "16"],
    "uniform": ["plan", LLAMA, "-c", "1x4xA100-80G", "-b", "8", "--max-strategies", "2", "--top", "2"],
}


def document(request, *, seed, workers, folder):
    """The plan file of a request, without what measures time and the seals over it."""
    path = folder / f"{seed}-{workers}.json"
    command = [sys.executable, "-c", "from uniap_core.cli import main; main()", *request]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), PYTHONHASHSEED=seed)
    done = subprocess.run(
        [*command, "--workers", str(workers), "-o", str(path)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = json.loads(path.read_text())
    plan.pop("seal")
    for record in plan["proof"]:
        record.pop("seconds")
    return json.dumps(plan)


@pytest.mark.parametrize("name", REQUESTS)
def test_neither_hash_seeds_nor_workers_change_a_plan(name, tmp_path):
    request = REQUESTS[name]
    first = document(request, seed="0", workers=1, folder=tmp_path)
    for seed, workers in (("1", 2), ("random", 3)):
        assert document(request, seed=seed, workers=workers, folder=tmp_path) == first, (seed, workers)
