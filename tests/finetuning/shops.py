"""A small shop of stamps with pictures, texts and sounds as files of its own, and the command line on it."""

import contextlib
import io
import json
import shutil
from pathlib import Path

from mmrec.examples import write_stamps
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

KINDS = {"picture": "png", "sound": "ogg", "text": "."}
CONFIG = """
device = "cpu"
batch = 12
epochs = {epochs}
rate = {rate}
warmup = 1
patience = 100

[held_out]
validation = 0.1
test = 0.2
"""


def mmrec(*arguments: object) -> str:
    """Run a command; return what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert run_app(app, [str(argument) for argument in arguments]) == ExitCode.DONE, arguments
    return out.getvalue()


def shop(folder: Path, stamps_root: Path, count: int = 16) -> Path:
    """Index some stamps that have all three, copied, the catalog naming them by relative paths. Returns the store."""
    lines = write_stamps(stamps_root.resolve(), folder / "all.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if all(str(row[name]).endswith(end) for name, end in KINDS.items())]
    rows = rows[:: len(rows) // count][:count]
    (folder / "media").mkdir()
    for number, row in enumerate(rows):
        for name in ("picture", "sound"):
            kept = folder / "media" / f"{number}{Path(row[name]).suffix}"
            shutil.copy(row[name], kept)
            row[name] = str(kept.relative_to(folder))
        del row["spoken"]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ("--id", "id", "--text", "text", "--image", "picture", "--audio", "sound", "--metadata", "subcategory")
    mmrec("index", folder / "items.jsonl", folder / "store", *columns)
    return folder / "store"


def config(folder: Path, towers: str, *, epochs: int = 2, rate: float = 1e-4, more: str = "") -> Path:
    """Write a configuration file."""
    path = folder / "config.toml"
    path.write_text(more + CONFIG.format(epochs=epochs, rate=rate) + towers)
    return path


def towers(how: str, last_blocks: int = 1) -> str:
    """Settings of three towers in one space, whose encoders are trained at their ends."""
    own = f'how = "{how}"\nlast_blocks = {last_blocks}\n'
    heads = "".join(f"[towers.{name}]\n{own}[towers.{name}.head]\n" for name in ("image", "audio"))
    return f"[towers.text]\n{own}{heads}"
