"""A checkpoint continues under its own plan and under any other, as if nothing had happened."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsdp_parity as parity
import msgspec
import pytest
from fsdp_plans import proposal
from fsdp_ranks import Ranks

from uniap_core.api import Job
from uniap_zoo import build

pytestmark = pytest.mark.torch

GRAPH = build("llama:layers=3,hidden=32,heads=4,ffn=64,vocab=64,seq=16,tied=true")
MIXED = proposal(GRAPH, 4, ["tp1-dp2-zero3", "tp2-dp1-sp", "tp1-dp2", "tp1-dp2-zero1", "tp2-dp1-sp"], cuts=(2,))
OTHER = proposal(GRAPH, 4, ["tp2-dp2-zero3-sp", "tp1-dp4-zero2", "tp4-dp1-sp", "tp2-dp2-zero3", "tp1-dp4-zero1"])
CHUNKS = proposal(
    GRAPH, 4, ["tp1-dp2", "tp2-dp1-sp", "tp1-dp2-zero1", "tp2-dp1", "tp2-dp1-sp"],
    cuts=(1, 2, 3), schedule="zbv", vpp=2,
)  # fmt: skip
"""Both of a tied parameter's layers lie on one rank."""

JOB = Job(steps=5)


def test_a_checkpoint_continues_under_any_plan(world: Callable[[int], Ranks], tmp_path: Path) -> None:
    straight = world(1).run(parity.alone, GRAPH, 8, JOB)[0]
    begun = msgspec.structs.replace(JOB, steps=3, checkpoint=str(tmp_path))
    world(4).run(parity.under_plan, MIXED, begun)
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]
    continued = msgspec.structs.replace(JOB, resume=str(tmp_path / "step-3"))
    for plan in (MIXED, OTHER, CHUNKS):
        results: list[Any] = world(4).run(parity.under_plan, plan, continued)
        losses, parameters, norms = straight
        parity.compare((losses[3:], parameters, norms[3:]), results)


def test_what_is_no_checkpoint_is_refused(world: Callable[[int], Ranks], tmp_path: Path) -> None:
    job = msgspec.structs.replace(JOB, resume=str(tmp_path))
    with pytest.raises(AssertionError, match="is not a checkpoint"):
        world(1).run(parity.under_plan, proposal(GRAPH, 1, "tp1-dp1"), job)


class Rude:
    """Pickles as a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch PWNED",)


@pytest.mark.parametrize("kind", ["call", "object", "elsewhere"])
def test_an_index_that_is_more_than_an_index_is_refused(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    from torch.distributed.checkpoint import metadata
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from uniap_fsdp.checkpoint import Reader

    monkeypatch.chdir(tmp_path)
    index: Any = Rude()
    if kind == "object":  # torch would unpickle its bytes
        index = metadata.Metadata(state_dict_metadata={"step": metadata.BytesStorageMetadata()}, storage_data={})
    if kind == "elsewhere":
        index = metadata.Metadata(state_dict_metadata={}, storage_data={"step": _StorageInfo("../other", 0, 8)})
    (tmp_path / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(pickle.UnpicklingError, match=r"names|no tensor|outside"):
        Reader(str(tmp_path)).read_metadata()
    assert not (tmp_path / "PWNED").exists()
