"""Installing a project for a test, without network."""

import shutil
import tomllib
from pathlib import Path


def install(project: Path, target: Path) -> None:
    """Put a project's package and metadata into a folder, as ``pip install --target`` does."""
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    package = next(path.parent for path in project.glob("*/__init__.py"))
    shutil.copytree(package, target / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = target / f"{described['name'].replace('-', '_')}-{described['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {described['name']}\nVersion: {described['version']}\n"
    )
    lines = []
    for group, entries in described["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
