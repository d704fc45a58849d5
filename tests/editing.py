"""Plans and proposals edited by hand, as somebody would who does not care where a field lies."""

from __future__ import annotations

from typing import Any, TypeVar

from msgspec.structs import replace

from uniap_core.plan import Plan
from uniap_core.proposal import Proposal

S = TypeVar("S", Plan, Proposal)


def changed(subject: S, **fields: Any) -> S:
    """The same with fields of the plan, of its proposal, candidate or training replaced; seals are left as they are."""
    path = ("proposal", "candidate", "training") if isinstance(subject, Plan) else ("candidate", "training")
    return _changed(subject, path, fields)


def _changed(holder: Any, path: tuple[str, ...], fields: dict[str, Any]) -> Any:
    mine = {name: fields[name] for name in fields if name in type(holder).__struct_fields__}
    deeper = {name: value for name, value in fields.items() if name not in mine}
    if deeper:
        name, *rest = path
        mine[name] = _changed(mine.get(name, getattr(holder, name)), tuple(rest), deeper)
    return replace(holder, **mine)
