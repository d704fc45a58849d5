"""The few SVG shapes that the charts are drawn from; text stays text, so pages can be searched."""

from __future__ import annotations

from collections.abc import Iterable

from ..quoting import html as escape


def rectangle(x: float, y: float, width: float, height: float, style: str, tip: str = "", radius: float = 0) -> str:
    """A rectangle of a CSS class; ``tip`` is shown on hovering."""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    rounded = f' rx="{radius:g}"' if radius else ""
    where = f'x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{height:.2f}"'
    return f'<rect class="{style}" {where}{rounded}>{title}</rect>'


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    """Text; ``anchor`` is start, middle or end."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line of a CSS class."""
    return f'<path class="{style}" d="M{x1:.2f} {y1:.2f}L{x2:.2f} {y2:.2f}"/>'


def picture(name: str, title: str, description: str, width: float, height: float, parts: Iterable[str]) -> str:
    """A whole picture with the words that a screen reader says instead."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        + "".join(parts)
        + "</svg></div>"
    )


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """A legend as HTML: pairs of CSS class and words."""
    items = "".join(
        f'<li><svg viewBox="0 0 12 12" aria-hidden="true"><rect class="{style}" width="12" height="12"/></svg>'
        f"{escape(words)}</li>"
        for style, words in entries
    )
    return f'<ul class="legend">{items}</ul>'
