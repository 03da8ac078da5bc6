"""Every code block of the documentation and of the README runs, in order, in one folder a page.

- ``bash``: lines ``mmrec ...`` run in this process and end with 0, or with N where their comment says "ends with N".
- ``python``: runs in one namespace a page.
- A block with a title is a file of that name, written into the page's folder.
- ``<!-- run ... -->``: Python that readers do not see: what a page needs, and checks of what it `printed`.
- A block whose fence has ``data-unrun="reason"`` cannot run here; its commands, options and syntax are checked instead.
- A page with ``<!-- slow -->`` runs in `make test-all`.
"""

import contextlib
import io
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from mmrec.examples import write_stamps
from pipelines.cli import app
from pipelines.outcome import run_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^```(?P<info>[^`\n]+)\n(?P<code>.*?)^```[ \t]*$|^<!-- run\n(?P<hidden>.*?)^-->$", re.DOTALL | re.MULTILINE
)
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
TENTH = ("animals/birds/", "food/fruit/", "vehicles/ship/", "animals/mammals/p")
FEW = ("animals/birds/d", "animals/birds/o", "animals/mammals/pig", "food/fruit/a", "food/fruit/b", "vehicles/ship/s")
SLOW = "<!-- slow -->"
FILES = {"csv", "json", "jsonl", "toml", "python", "text"}
UNRUN = {
    "README.md": 1,
    "docs/how-to/encoders.md": 2,
    "docs/how-to/gpu.md": 3,
    "docs/how-to/object-stores.md": 2,
    "docs/quickstart.md": 1,
    "docs/tutorials/index-and-query.md": 1,
}


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page: its language, the attributes of its fence, its code and its line."""

    language: str
    attributes: Mapping[str, str]
    code: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["hidden"] is not None:
            yield Block("python", {}, found["hidden"], line)
        else:
            language = found["info"].split()[0]
            yield Block(language, dict(ATTRIBUTE.findall(found["info"])), found["code"], line)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _param(page: Path) -> Any:
    slow = [pytest.mark.slow] if SLOW in page.read_text(encoding="utf-8") else []
    return pytest.param(page, id=name_of(page), marks=slow)


@pytest.mark.parametrize("page", [_param(page) for page in PAGES if any(blocks_of(page))])
def test_every_block_runs(page, tmp_path, request, monkeypatch):
    text = page.read_text(encoding="utf-8")
    if ".cache/" in text:
        lay_out_the_demo(request.getfixturevalue("stamps_root"), tmp_path, TENTH if SLOW in text else FEW)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__", "printed": ""}
    for block in blocks_of(page):
        where = f"{name_of(page)}:{block.line}"
        if "data-unrun" in block.attributes:
            check_unrun(block, where)
        elif "title" in block.attributes:
            assert block.language in FILES, where
            Path(block.attributes["title"]).parent.mkdir(parents=True, exist_ok=True)
            Path(block.attributes["title"]).write_text(block.code, encoding="utf-8")
        else:
            run_block(block, names, where)


def lay_out_the_demo(stamps_root: Path, folder: Path, shelves: tuple[str, ...]) -> None:
    """Make a folder look as the checkout does after ``make demo``, with some of the stamps."""
    (folder / ".cache" / "demo").mkdir(parents=True)
    (folder / ".cache" / "stamps").symlink_to(stamps_root.parents[3].resolve())
    whole = write_stamps(stamps_root.resolve(), folder / ".cache" / "whole.jsonl")
    rows = [line for line in whole.read_text().splitlines() if json.loads(line)["id"].startswith(shelves)]
    (folder / ".cache" / "demo" / "stamps.jsonl").write_text("\n".join(rows) + "\n")


def run_block(block: Block, names: dict[str, Any], where: str) -> None:
    """Run a block; `printed` is then what it wrote to stdout, unless it is a check of what was printed before."""
    match block.language:
        case "bash":
            names["printed"] = "".join(run_line(line, where) for line in lines_of(block.code))
        case "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block.code, where, "exec"), names)  # noqa: S102 - the very lines a reader runs
            names["printed"] = out.getvalue() or names["printed"]
        case "toml":
            tomllib.loads(block.code)
        case "text":
            pass
        case _:
            pytest.fail(f"{where}: a block in {block.language} is neither run nor a file: give it a title")


def run_line(line: str, where: str) -> str:
    words = shlex.split(line, comments=True)
    assert words[0] == "mmrec", f"{where}: {line!r} is no command of mmrec; mark the block with data-unrun"
    wanted = re.search(r"#.*ends with (\d)", line)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_app(app, words[1:])
    assert code == (int(wanted[1]) if wanted else 0), f"{where}: {line}\n{out.getvalue()}{err.getvalue()}"
    return out.getvalue()


def lines_of(code: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", code)
    return [line for line in map(str.strip, joined.splitlines()) if line and not line.startswith("#")]


def check_unrun(block: Block, where: str) -> None:
    """Check what can be checked of a block that cannot run here."""
    assert len(block.attributes["data-unrun"]) > 10, f"{where}: say why it cannot run"
    if block.language == "python":
        compile(block.code, where, "exec")
        return
    assert block.language == "bash", where
    for line in lines_of(block.code):
        words = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"\w+=.*", word)]
        match words:
            case [] | ["export" | "git" | "cd" | "source", *_]:
                pass
            case ["mmrec", *rest]:
                check_command(rest, where)
            case ["make", target, *_]:
                assert f"\n{target}:" in (ROOT / "Makefile").read_text(), f"{where}: no make {target}"
            case ["pip", "install", *wanted]:
                check_extras(wanted, where)
            case ["python", "-m", module, *_] | ["accelerate", "launch", *_, "-m", module]:
                assert find_spec(module), f"{where}: no module {module}"
            case ["accelerate", "launch", *rest]:
                assert find_spec(rest[rest.index("-m") + 1]), f"{where}: {line}"
            case _:
                pytest.fail(f"{where}: {line!r} cannot be checked")


def check_command(words: list[str], where: str) -> None:
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    known = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)} | {"--help", "--debug"}
    unknown = [word for word in words if re.match(r"-{1,2}[a-z]", word) and word not in known]
    assert not getattr(command, "commands", {}), f"{where}: {words} is no command"
    assert not unknown, f"{where}: no option {unknown}"


def check_extras(wanted: list[str], where: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in re.findall(r"mmrec\[([\w,]+)\]", " ".join(wanted)):
        assert set(name.split(",")) <= extras.keys(), f"{where}: no extra {name}"


def test_blocks_that_cannot_run_here_are_few_and_known():
    counts = {name_of(page): sum("data-unrun" in block.attributes for block in blocks_of(page)) for page in PAGES}
    assert {name: count for name, count in counts.items() if count} == UNRUN


@pytest.mark.parametrize(
    ("language", "code", "fault"),
    [
        ("bash", "mmrec search shop --txt boat", "no option"),
        ("bash", "mmrec finde shop", "is no command"),
        ("bash", "make everything", "no make everything"),
        ("bash", "pip install 'mmrec[cloud]'", "no extra cloud"),
        ("bash", "curl example.org", "cannot be checked"),
    ],
)
def test_wrong_lines_in_blocks_that_cannot_run_are_found(language, code, fault):
    block = Block(language, {"data-unrun": "an example of a fault"}, code, 1)
    with pytest.raises((AssertionError, pytest.fail.Exception), match=fault):
        check_unrun(block, "here")
