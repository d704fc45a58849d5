"""``python -m bench [NAME [OPTIONS]]``: run one benchmark, or list them."""

from __future__ import annotations

import importlib
import pkgutil
import runpy
import sys

import bench


def main() -> None:
    """Run ``bench.NAME``, or print every name with its first line."""
    names = sorted(m.name for m in pkgutil.iter_modules(bench.__path__) if not m.name.startswith("_"))
    if len(sys.argv) < 2:
        for name in names:
            lines = (importlib.import_module(f"bench.{name}").__doc__ or "").splitlines()
            print(f"{name:<12} {lines[0] if lines else ''}")
        return
    name = sys.argv.pop(1)
    if name not in names:
        sys.exit(f"there is no benchmark named {name!r}; known: {', '.join(names)}")
    sys.argv[0] = f"bench.{name}"
    runpy.run_module(f"bench.{name}", run_name="__main__", alter_sys=True)


main()
