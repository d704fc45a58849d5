"""The verifier: judges proposals by code of its own, independent of every solver and every lowering.

Names are resolved on first use, so that importing a plan's types does not load networkx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answer import verify_result
    from .crosscheck import cross_check, with_checks
    from .judge import verify
    from .trace import timeline

_HOME = {
    "cross_check": "crosscheck",
    "timeline": "trace",
    "verify": "judge",
    "verify_result": "answer",
    "with_checks": "crosscheck",
}

__all__ = ["cross_check", "timeline", "verify", "verify_result", "with_checks"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
