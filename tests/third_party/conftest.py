"""Three distributions that are not part of this one, installed for these tests alone.

Where they are really installed (tox -e third-party) nothing is done. Otherwise a folder on the path gets what pip would
put there: the package and its metadata with entry points, so that they are found as any distribution is.
"""

import importlib
import sys
from pathlib import Path

import pytest
from installing import install

from uniap_core import registry

PROJECTS = ("acme_solver", "acme_broken", "acme_hostile")


def really_installed() -> bool:
    return any(row.name == "acme" for row in registry.listing("solver"))


@pytest.fixture(scope="module", autouse=True)
def distributions(tmp_path_factory):
    """All of them, importable and registered."""
    if really_installed():
        yield
        return
    here, target = Path(__file__).parent, tmp_path_factory.mktemp("site-packages")
    for name in PROJECTS:
        install(here / name, target)
    sys.path.insert(0, str(target))
    _forget()
    yield
    sys.path.remove(str(target))
    for module in [m for m in sys.modules if m.partition(".")[0] in PROJECTS]:
        del sys.modules[module]
    _forget()


def _forget() -> None:
    importlib.invalidate_caches()
    registry.load.cache_clear()
