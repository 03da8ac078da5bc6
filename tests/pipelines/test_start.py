"""What a command loads before it answers: no model library where no model is needed."""

import subprocess
import sys

import pytest
from small_store import index

from mmrec.storage.layout import Layout

MODELS = {"torch", "torchaudio", "torchvision", "transformers", "faiss", "datasets", "open_clip", "timm", "scipy"}
PROGRAM = """
import sys
sys.argv = ["mmrec", *sys.argv[1:]]
from pipelines.cli import main
try:
    main()
except SystemExit as end:
    print("ended with", end.code)
print("loaded", *sorted(set({models}) & set(sys.modules)))
"""
COMMANDS = {
    "--help": 0,
    "search --help": 0,
    "status STORE": 0,
    "list STORE": 0,
    "show STORE i1": 0,
    "quarantine STORE": 0,
    "generations STORE": 0,
    "gc STORE": 0,
    "delete STORE i2": 0,
    "rollback STORE 1": 0,
    "export STORE OUT.parquet": 0,
    "events import STORE EVENTS": 0,
    "events stats STORE": 0,
    "events export STORE OUT.csv": 0,
    "events refused STORE": 0,
    "events forget STORE u1": 0,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return a store, a file of events and the beginning of names of exports."""
    folder = tmp_path_factory.mktemp("start")
    index(Layout(folder / "store"))
    (folder / "events.csv").write_text("user,item,time\nu1,i1,2024-01-01\nu2,i3,2024-01-02\n")
    return {"STORE": str(folder / "store"), "EVENTS": str(folder / "events.csv"), "OUT": str(folder / "out")}


def run(arguments: list[str], program: str = PROGRAM.format(models=sorted(MODELS))) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_need_no_model_load_none(places: dict[str, str], command: str) -> None:
    arguments = [
        places.get(word, word.replace("OUT", places["OUT"])) if word in places or "OUT." in word else word
        for word in command.split()
    ]
    said = run(arguments)
    assert f"ended with {COMMANDS[command]}\n" in said, said
    assert said.splitlines()[-1] == "loaded", said


def test_opening_a_store_loads_no_model(places: dict[str, str]) -> None:
    """One process for all that the commands above share, fast enough for every run."""
    program = """
import sys
import mmrec
import pipelines.answers, pipelines.upkeep, mmrec.jobs.events, mmrec.jobs.upkeep, mmrec.jobs.index
mmrec.jobs.index._check_verdict("packaged", force=False)  # scipy.stats alone takes seconds
engine = mmrec.open(sys.argv[1])
assert engine.status()["items"] > 50 and engine.show("i1").text == "i1" and list(engine.items(limit=2))
engine.generations(), engine.delete("not there"), engine.rollback(1)
sys.exit(" ".join(sorted({models} & set(sys.modules))) or 0)
""".replace("{models}", repr(MODELS))
    run([places["STORE"]], program)


def test_the_package_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "mmrec", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mmrec ")
