"""A small store of things in colours: the encoder goes by the thing, and people and labels by the colour."""

import csv
import json
import random
from pathlib import Path

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "purple", "orange", "brown", "pink")
THINGS = ("car", "apple", "dress", "chair", "bird", "house", "lamp", "boat", "shoe", "ball", "cup", "flower")


def write_catalog(path: Path) -> Path:
    """Write one item for each thing in each colour, and as another column the same colours dealt out anew."""
    named = [(colour, thing) for colour in COLOURS for thing in THINGS]
    dealt = [colour for colour, _ in named]
    random.Random(0).shuffle(dealt)
    rows = [
        {"id": f"{colour}-{thing}", "text": f"a {colour} {thing}", "colour": colour, "dealt": other}
        for (colour, thing), other in zip(named, dealt, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_events(path: Path, *, shuffled: bool) -> Path:
    """Write what 80 people liked: ten things of one colour each, or ten of any where shuffled."""
    drawn = random.Random(0)
    everything = [(colour, thing) for colour in COLOURS for thing in THINGS]
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["user", "item", "kind", "time"])
        for person in range(80):
            own = [pair for pair in everything if shuffled or pair[0] == COLOURS[person % len(COLOURS)]]
            for step, (colour, thing) in enumerate(drawn.sample(own, 10)):
                lines.writerow([f"p{person}", f"{colour}-{thing}", "like", 1_750_000_000 + 10_000 * step + person])
    return path
