"""Wrong arguments from Python are told in words, at once, and change nothing."""

import json
import subprocess
import sys

import pytest
from exchange_shop import TITLES, index, titles

import mmrec
from mmrec.errors import UnknownIdError, UsageError
from mmrec.storage.items import ItemTable, near_ids
from mmrec.storage.layout import Layout

# In a process of its own, for tests check the types of all calls before the library can.
CALLS = """
import json, sys
import numpy as np
from PIL import Image
import mmrec
from mmrec import Field, Item, Modality, Part
engine = mmrec.open(sys.argv[1])
picture = Image.new("RGB", (4, 4))
calls = {
    "number as id": lambda: engine.similar(5),
    "number to show": lambda: engine.show(7),
    "one text as ids": lambda: engine.vectors("apple"),
    "number among ids": lambda: engine.vectors(["apple", 3]),
    "none as ids": lambda: engine.vectors(None),
    "picture in a part": lambda: engine.search(Part("image", picture)),
    "picture as query": lambda: engine.search(picture),
    "number as query": lambda: engine.search([1, 2]),
    "text as weight": lambda: engine.search(Part("text", "boat", "much")),
    "fraction as k": lambda: engine.search("boat", k=2.5),
    "number to delete": lambda: engine.delete([4]),
    "one item": lambda: engine.upsert(Item("x", ())),
    "dict as item": lambda: engine.upsert([{"id": "x"}]),
    "number as new id": lambda: engine.upsert([Item(5, (Field(Modality.TEXT, "t", text="x"),), {"shelf": "a"})]),
    "number as user": lambda: engine.recommend(7),
    "number as liked": lambda: engine.recommend(text=3),
    "one text as history": lambda: engine.recommend(history="apple"),
    "number in a history": lambda: engine.recommend(history=["apple", 3]),
    "text as diversity": lambda: engine.recommend(diversity="much"),
    "fraction as k of a list": lambda: engine.recommend(k=2.5),
    "one event": lambda: engine.record(mmrec.Event("ada", "apple", "view", None)),
    "pair as event": lambda: engine.record([("ada", "apple")]),
    "time that is none": lambda: engine.record([mmrec.Event("ada", "apple", "view", 3)]),
    "empty id": lambda: engine.upsert([Item("", (Field(Modality.TEXT, "t", text="x"),), {"shelf": "a"})]),
}
said = {}
for name, call in calls.items():
    try:
        said[name] = ["returned", repr(call())]
    except Exception as error:
        said[name] = [type(error).__name__, str(error)]
assert len(engine.vectors(np.array(["apple"]).tolist())) == len(engine.search("boat", k=np.int64(1)).hits) == 1
print(json.dumps(said))
"""
EXPECTED = {
    "number as id": "an id is a text; got int 5",
    "number to show": "an id is a text; got int 7",
    "one text as ids": "Write ['apple']",
    "number among ids": "got int 3",
    "none as ids": "got NoneType",
    "picture in a part": "takes a path, a URL or bytes; Part.image(...) also takes a decoded one; got Image",
    "picture as query": "Part.image('boat.png')",
    "number as query": "got list [1, 2]",
    "text as weight": "the weight of a part is a number; got str 'much'",
    "fraction as k": "k must be a whole number, at least 1; got 2.5",
    "number to delete": "got int 4",
    "one item": "items are given as a list",
    "dict as item": "an item is a mmrec.Item; got dict",
    "number as new id": "got int 5",
    "empty id": "must not be empty",
    "number as user": "user is a text",
    "number as liked": "text is a text",
    "one text as history": "got str 'apple'",
    "number in a history": "got int 3",
    "text as diversity": "diversity must be a number from 0 to 1; got 'much'",
    "fraction as k of a list": "k must be a whole number, at least 1; got 2.5",
    "one event": "events are given as a list",
    "pair as event": "an event is a mmrec.Event; got tuple",
    "time that is none": "its time is a datetime",
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory, packaged):
    made = Layout(tmp_path_factory.mktemp("shop") / "store")
    index(made, packaged[:1], titles(TITLES | {"animals/birds/duck": "a duck", "animals/birds/owl": "an owl"}))
    return made


def test_each_wrong_argument_is_a_usage_error_that_says_what_is_due(layout):
    before = ItemTable(layout.items).version
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(layout.root)], capture_output=True, text=True, check=True, timeout=300
    )
    said = json.loads(done.stdout)
    assert {name: kind for name, (kind, _) in said.items()} == dict.fromkeys(EXPECTED, "UsageError")
    for name, words in EXPECTED.items():
        assert words in said[name][1], (name, said[name][1])
    assert ItemTable(layout.items).version == before


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("animals/birds/dck", "animals/birds/duck"),
        ("Apple", "apple"),
        ("birds/owl", "animals/birds/owl"),
        ("guitars", "guitar"),
        ("kte", "kite"),
    ],
)
def test_an_unknown_id_is_told_with_those_that_may_be_meant(layout, wanted, meant):
    assert near_ids(ItemTable(layout.items), wanted)[0] == meant
    engine = mmrec.open(layout.root)
    for call in (engine.show, engine.similar, lambda name: engine.vectors([name])):
        with pytest.raises(UnknownIdError, match=f"did you mean '{meant}'"):
            call(wanted)


@pytest.mark.parametrize("wanted", ["zzzz", "'", "%_", "", "qqq' OR '1'='1"])
def test_an_id_like_none_is_told_how_to_find_one(layout, wanted):
    with pytest.raises(UnknownIdError, match="mmrec list"):
        mmrec.open(layout.root).show(wanted)


def test_items_are_listed_with_what_they_are(layout):
    engine = mmrec.open(layout.root)
    assert sorted(hit.id for hit in engine.items()) == sorted([*TITLES, "animals/birds/duck", "animals/birds/owl"])
    some = list(engine.items(where="shelf = 'a'", limit=2))
    assert len(some) == 2
    assert all(hit.metadata == {"shelf": "a"} and hit.text == TITLES[hit.id] for hit in some)
    with pytest.raises(UsageError, match="shlf"):
        list(engine.items(where="shlf = 'a'"))


@pytest.mark.slow
def test_the_command_line_lists_and_says_its_version(layout):
    def command(*arguments):
        code = "from pipelines.cli import main; main()"
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, done.stdout

    code, shown = command("list", str(layout.root), "--json")
    assert code == 0
    assert len(json.loads(shown)["items"]) == len(TITLES) + 2
    assert len(json.loads(command("list", str(layout.root), "--json", "--limit", "3")[1])["items"]) == 3
    assert "a boat" in command("list", str(layout.root), "--where", "id = 'boat'")[1]
    code, shown = command("--version")
    assert (code, shown.split()[0]) == (0, "mmrec")
    code, shown = command("list", str(layout.root), "--where", "nothing = 1", "--json")
    assert code == 2
    assert "nothing" in json.loads(shown)["error"]["message"]
