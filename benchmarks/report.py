"""How a benchmark says what it measured."""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["WORK", "arguments", "machine", "show"]

WORK = Path(".cache/benchmarks")
"""Where benchmarks keep stores between runs."""


def arguments(description: str) -> argparse.Namespace:
    """Read the command line that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a smaller run that shows whether it works")
    return parser.parse_args()


def machine() -> str:
    """The machine in a few words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def show(title: str, rows: Sequence[Sequence[object]], figures: Mapping[str, float]) -> None:
    """Print a table (its first row the header) and the figures, if there are any, as one line of JSON."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    print(f"\n{title}\n{machine()}\n")
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if figures:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
