"""Hypothesis profiles: ``dev`` (default), ``ci`` (the same examples every time), ``nightly`` (ten times as many)."""

import os
import signal
import subprocess

import pytest
from hypothesis import settings

settings.register_profile("dev", deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.register_profile("nightly", settings.get_profile("dev"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session", autouse=True)
def _idle_workers_are_counted():
    """Under coverage, end the solvers' idle workers while their lines still count: later they are just killed."""
    yield
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:
        return
    from uniap_core.solve import process

    for worker in [worker for group in process._idle.values() for worker in group]:
        worker._process.send_signal(signal.SIGTERM)
        try:
            worker._process.wait(10)
        except subprocess.TimeoutExpired:
            continue
