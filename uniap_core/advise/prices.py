"""The price of pins: how much slower the best pinned plan is than the best plan without the pin."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec

from ..errors import NotEnoughTime
from ..events import Emit, progress_of, silent
from ..pins import Pins
from ..search import Considered, Search, Sweep, sweep, within

MOST_PINS = 16
"""A sweep per pin is worth it for so many."""


class PinPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a pin costs.

    Attributes
    ----------
    pin
        The pin as given; all of them joined for the price of the whole set.
    pinned_s, free_s
        Proven time per iteration with it and without it (the other pins stay).
    considered
        Where the pin excludes nothing: what the search considers anyway.
    """

    pin: str
    pinned_s: float
    free_s: float
    considered: str = ""

    @property
    def slower(self) -> float:
        """Relative slow-down; 0 if the pin costs nothing."""
        return max(0.0, self.pinned_s / self.free_s - 1)

    def sentence(self) -> str:
        """The price in words."""
        if self.considered:
            return f"pinning {self.pin} excludes nothing: the search considers {self.considered} alone"
        cost = f"costs {self.slower:.1%}" if self.slower >= 5e-4 else "costs nothing"
        return f"pinning {self.pin} {cost}"


def pin_prices(
    search: Search, found: Sweep, emit: Emit = silent, began: float | None = None, most: int = MOST_PINS
) -> tuple[PinPrice, ...]:
    """The price of each pin of a search, and of all together if there are several.

    An interrupt or the search's time limit ends it with the prices that are known by then.

    Parameters
    ----------
    search, found
        A search with pins and its outcome. Each price takes one more sweep.
    began
        When the search's time limit began, on the performance counter; ``None``: now.
    most
        Of more pins than this only the price of all together is found.
    """
    began = time.perf_counter() if began is None else began
    priced: list[PinPrice] = []
    with contextlib.suppress(NotEnoughTime, KeyboardInterrupt):
        priced.extend(_prices(search, found, emit, began, most))
    return tuple(priced)


def _prices(search: Search, found: Sweep, emit: Emit, began: float, most: int) -> Iterator[PinPrice]:
    known = Considered(search)
    pinned = found.plan.predicted.iteration_time_s
    few = search.pins.pins if len(search.pins.pins) <= most else ()
    for pin in few:
        if not known.excludes(pin):
            listed = f"{pin.key} {', '.join(map(str, known.values(pin)))}"
            yield PinPrice(pin=pin.text, pinned_s=pinned, free_s=pinned, considered=listed)
            continue
        rest = search.pins.without(pin)
        yield PinPrice(pin=pin.text, pinned_s=pinned, free_s=_time(search, rest, emit, began))
    if len(search.pins.pins) > 1:
        together = ", ".join(search.pins.texts)
        together = together if few else f"all {len(search.pins.pins)} of them"
        yield PinPrice(pin=together, pinned_s=pinned, free_s=_time(search, Pins(), emit, began))


def _time(search: Search, pins: Pins, emit: Emit, began: float) -> float:
    freed = replace(search, pins=pins, space=pins.narrow(search.free_space), top=1)
    found = sweep(within(freed, began), progress_of(emit))
    if found.interrupted:
        raise KeyboardInterrupt
    return found.plan.predicted.iteration_time_s
