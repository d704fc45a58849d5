"""The verifier: judges proposals by code of its own, independent of every solver and every lowering.

``verify`` and ``verify_result`` live in :mod:`.judge`; they are resolved on first use so that importing a plan's
types does not load networkx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .judge import verify, verify_result

__all__ = ["verify", "verify_result"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import judge

        return getattr(judge, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
