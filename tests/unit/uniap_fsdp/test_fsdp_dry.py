"""The dry run in a process whose torch has worked on several threads: the child must not wait for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

CODE = """
import torch
torch.set_num_threads(4)
(torch.randn(512, 512) @ torch.randn(512, 512)).exp().sum()
torch.arange(4_000_000.0).cos().sum()
from uniap_core.search import make, sweep
from uniap_fsdp.dry import layout
found = sweep(make("llama:layers=2,hidden=64,heads=4,kv_heads=2,ffn=128,vocab=128,seq=256", "2xA100-80G", 4,
                   executor="fsdp"))
print(layout(found.plan).world)
"""


def test_a_parent_with_threads_has_a_child_that_ends():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=240)
    assert done.stdout == "2\n", done.stderr
