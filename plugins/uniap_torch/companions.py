"""Other ranks at work while one is measured: ranks on CPUs share cores, caches and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from uniap_core.api import BadValue


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep that many processes multiplying matrices, and this one on a single thread, as a rank is.

    Raises
    ------
    BadValue
        If one of them does not start.
    """
    threads = torch.get_num_threads()
    command = [sys.executable, "-m", "uniap_torch.companions"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    running: list[subprocess.Popen[bytes]] = []
    try:
        torch.set_num_threads(1)
        for _ in range(count):
            running.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline().strip() != b"ready":
                raise BadValue("a process that was to work beside the measurement did not start", "try fewer ranks")
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()
        torch.set_num_threads(threads)


def main() -> None:
    """Work until whoever started this has ended."""
    parent = os.getppid()
    left, right = torch.randn(512, 512), torch.randn(512, 512)
    print("ready", flush=True)
    while os.getppid() == parent:
        left @ right


if __name__ == "__main__":
    main()
