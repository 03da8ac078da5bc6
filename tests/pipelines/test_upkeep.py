"""`mmrec verify`, `mmrec repair` and `mmrec gc` as a person runs them."""

import json
import shutil
import subprocess
import sys

import pytest

ROWS = [
    {"id": f"i{n}", "text": f"{colour} {thing}"}
    for n, (colour, thing) in enumerate(
        (colour, thing) for colour in ("red", "green", "blue") for thing in ("boat", "lamp", "cat", "star")
    )
]


def mmrec(*arguments, code=0):
    run = "from pipelines.cli import main; main()"
    command = [sys.executable, "-c", run, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


@pytest.fixture
def store(tmp_path):
    catalog = tmp_path / "catalog.jsonl"
    catalog.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    mmrec("index", catalog, tmp_path / "store", "--id", "id", "--text", "text")
    return tmp_path / "store"


@pytest.mark.slow
def test_verify_mend_and_collect(store, tmp_path):
    sound = mmrec("verify", store, "--json")
    assert json.loads(sound.stdout)["sound"] is True
    index = store / "generations" / "1" / "index.faiss"
    index.write_bytes(index.read_bytes()[:-1])
    shutil.rmtree(next((store / "vectors").iterdir()))
    told = json.loads(mmrec("verify", store, "--json", code=1).stdout)
    assert told["run"] == [f"mmrec repair {store}"]
    assert "Run: mmrec repair" in " ".join(mmrec("verify", store, code=1).stderr.split())
    mmrec("repair", store)
    told = json.loads(mmrec("verify", store, "--json", code=1).stdout)
    assert f"mmrec index SOURCE {store}" in told["run"]
    mmrec("index", tmp_path / "catalog.jsonl", store, "--id", "id", "--text", "text")
    mmrec("verify", store, "--full")
    found = json.loads(mmrec("search", store, "--text", "a red boat", "-k", "1", "--json").stdout)
    assert found["results"][0]["id"] == "i0"
    dry = json.loads(mmrec("gc", store, "--dry-run", "--grace", "0", "--json").stdout)
    assert dry == json.loads(mmrec("gc", store, "--grace", "0", "--json").stdout)
    assert dry["folders"] == 1
    mmrec("verify", store)


@pytest.mark.slow
def test_what_is_no_store_is_refused(tmp_path):
    for verb in ("verify", "repair", "gc"):
        assert "is not a mmrec store" in mmrec(verb, tmp_path / "none", code=2).stderr
