"""What every engine is timed with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, NamedTuple


class Step(NamedTuple):
    """One thing to time: `reset` is run before each repeat, off the clock.

    What tells its own seconds is believed.
    """

    run: Callable[[], Any]
    reset: Callable[[], Any] = lambda: None
    facts: dict[str, Any] = {}


def timed(step: Step, repeats: int, warm_up: bool) -> list[float]:
    seconds = []
    for _ in range(repeats + warm_up):
        step.reset()
        start = time.perf_counter()
        told = step.run()
        seconds.append(told if isinstance(told, float) else time.perf_counter() - start)
    return seconds[warm_up:]


def memory_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    raise RuntimeError(f"/proc/self/status has no {field}")
