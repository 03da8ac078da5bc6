"""The README's live lines, run as written, on a part of the demo's catalog."""

import contextlib
import io
import json
import re
import shlex

import pytest

from mmrec.examples import write_stamps
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

SHELVES = ("animals/birds/", "food/fruit/", "vehicles/ship/", "animals/mammals/p")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, stamps_root):
    """A folder that looks as the checkout does after ``make demo``, with a tenth of the stamps."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "stamps").symlink_to(stamps_root.parents[3].resolve())
    whole = write_stamps(stamps_root.resolve(), folder / "whole.jsonl")
    rows = [line for line in whole.read_text().splitlines() if json.loads(line)["id"].startswith(SHELVES)]
    (folder / ".cache" / "demo").mkdir()
    (folder / ".cache" / "demo" / "stamps.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def blocks(root, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (root / "README.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def answers(workplace, root):
    """Run each line of the command-line block; give what it printed."""
    lines = [line for block in blocks(root, "bash") for line in block.splitlines() if line.startswith("mmrec ")]
    printed = {}
    with contextlib.chdir(workplace):
        for line in lines:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                assert run_app(app, shlex.split(line)[1:]) == ExitCode.DONE, line
            printed[line] = out.getvalue()
    return printed


def test_the_command_lines_do_what_they_say(answers, workplace):
    assert len(answers) == 10
    said = {line.split()[1]: text for line, text in answers.items()}
    assert json.loads(said["similar"])["results"][0]["id"].startswith("animals/birds/")
    assert (workplace / "fruit.html").stat().st_size > 10_000
    boats = next(text for line, text in answers.items() if "a boat on the water" in line)
    assert "vehicles/ship/" in boats
    pigs = next(text for line, text in answers.items() if "pig.ogg" in line)
    assert "animals/mammals/pig" in pigs
    food = next(text for line, text in answers.items() if "--where" in line)
    assert "food/fruit/" in food
    assert "animals/" not in food


def test_the_python_lines_run(answers, workplace, root, capsys, monkeypatch):
    assert answers
    monkeypatch.chdir(workplace)
    (block,) = blocks(root, "python")
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - the very lines a reader runs
    printed = capsys.readouterr().out
    assert "vehicles/ship/" in printed.splitlines()[0]
    assert len(printed.splitlines()) == 7


def test_the_lines_about_recommending_run(answers, workplace, root):
    assert answers
    items = [json.loads(line)["id"] for line in (workplace / ".cache/demo/stamps.jsonl").read_text().splitlines()]
    birds, food = ([item for item in items if item.startswith(shelf)] for shelf in ("animals/birds/", "food/fruit/"))
    events = ["user,item,kind,time"]
    for person, shelf in [("ann", birds), *((f"p{number}", food if number % 2 else birds) for number in range(12))]:
        events += [f"{person},{item},like,2026-01-0{day + 1}T10:00:00Z" for day, item in enumerate(shelf[:6])]
    (workplace / "clicks.csv").write_text("\n".join(events) + "\n")
    (workplace / "pipelines").symlink_to(root / "pipelines")
    (block,) = [block for block in blocks(root, "sh") if "mmrec recommend" in block]
    printed = []
    with contextlib.chdir(workplace):
        for line in block.splitlines():
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                assert run_app(app, shlex.split(line, comments=True)[1:]) == ExitCode.DONE, line
            printed.append(out.getvalue())
    listed = [text for line, text in zip(block.splitlines(), printed, strict=True) if "--user ann" in line]
    assert "animals/birds/" in listed[0]
    assert listed[0] != listed[1]


def test_the_lines_about_fine_tuning_run(answers, workplace, root):
    assert answers
    (block,) = [block for block in blocks(root, "sh") if "mmrec finetune" in block]
    printed = {}
    with contextlib.chdir(workplace):
        for line in block.splitlines():
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                assert run_app(app, shlex.split(line, comments=True)[1:]) == ExitCode.DONE, line
            printed[line.split()[1]] = out.getvalue()
    assert "verdict" in printed["finetune"]
    assert "animals/birds/" in printed["search"]
    assert (workplace / "shop-encoders" / "report.html").stat().st_size > 10_000


def test_the_tree_names_what_is_there(root):
    (tree,) = re.findall(r"^```\n(pipelines/.*?)^```$", (root / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    top = ""
    named = []
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            top = name
            named.append(name)
        elif name != "what" and re.fullmatch(r"[\w.]+(\.py|/)", name):
            named.append(top + name)
    missing = [name for name in named if not (root / name).exists()]
    assert missing == []
