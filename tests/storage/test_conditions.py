"""Conditions that are not what they seem are refused, and a wrong one says how it is written."""

from pathlib import Path

import pyarrow as pa
import pytest
from small_store import Cheap, index

import mmrec
from mmrec.errors import UsageError
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> mmrec.Store:
    layout = Layout(tmp_path_factory.mktemp("conditions") / "store")
    items = [
        Item(f"i{n}", (Field(Modality.TEXT, "title", text=f"item {n}"),), {"fold": n % 3, "unit price": n / 2}, n)
        for n in range(30)
    ]
    schema = pa.schema([("fold", pa.int64()), ("unit price", pa.float64())])
    mmrec.index_items(items, schema, layout, [Cheap()], mmrec.Indexing())
    return mmrec.open(layout.root, encoders=[Cheap()])


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("1=1; DROP TABLE x", "a ; ends it"),
        ("fold = 1 -- and 1=0", "comment"),
        ("fold = 1 /* and */", "comment"),
        ("fold = 1 LIMIT 1", "LIMIT"),
        ("fold = 1 GROUP BY fold", "GROUP"),
        ("fold = 1 ORDER BY fold", "ORDER"),
        ("fold = 1 UNION SELECT 1", "UNION"),
        ("fold = 1 FOR UPDATE", "FOR"),
        ("1=1) OR (1=1", "closed that was not opened"),
        ("(fold = 1", "opened and not closed"),
        ("id = 'a", "quote"),
        ("fold = $1", "not given"),
        ('"fold" = 1', "`fold`"),
        ("fold in (select 1)", "not supported"),
        ("fold != '1'", "holds whole numbers, and '1' is a text; write it as in: fold != 1"),
        ("`unit price` > '2.5'", "holds numbers, and '2.5' is a text; write it as in: `unit price` > 2.5"),
        ("fold in ('1')", "holds whole numbers"),
        ("id = 1", "holds texts, and 1 is a number"),
        ("nothing = 1", r"id \(texts\), fold \(whole numbers\), unit price \(numbers\)"),
    ],
)
def test_a_condition_that_would_be_cut_or_is_of_another_kind_is_refused(
    engine: mmrec.Store, where: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason.replace("(se", r"\(se")):
        list(engine.items(where=where))
    with pytest.raises(UsageError):
        engine.search("item 1", where=where)


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("fold = 1", 10),
        ("id = 'x;--/*(\"$'", 0),
        ("(fold = 1) or (fold = 2)", 20),
        ("`unit price` < 1", 2),
        ("id in ('i1', 'i2')", 2),
        ("id = 'O''Neil' or fold = 0 ", 10),
    ],
)
def test_other_conditions_are_taken_whole(engine: mmrec.Store, where: str, count: int) -> None:
    assert len(list(engine.items(where=where))) == count


def test_k_is_at_most_what_the_store_holds(engine: mmrec.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    live = engine._fresh_snapshot().index
    search = type(live).search
    monkeypatch.setattr(type(live), "search", lambda self, q, k, **how: (asked.append(k), search(self, q, k, **how))[1])
    assert len(engine.search("item 1", k=10**9).hits) == 30
    assert len(engine.similar("i1", k=10**9).hits) == 29
    assert len(engine.recommend(history=["i1"], k=10**9).hits) == 29
    assert engine.recommend(k=10**9).hits
    assert max(asked) < 500
    for k in (0, -1, True):
        for call in (engine.search, engine.similar):
            with pytest.raises(UsageError, match="k must be a whole number"):
                call("i1", k=k)
        with pytest.raises(UsageError, match="k must be a whole number"):
            engine.recommend(k=k)


def test_status_and_items_need_no_index(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "store")
    index(layout)
    for file in layout.generations.glob("*/index*"):
        file.unlink()
    engine = mmrec.open(layout.root)
    assert engine.status()["items"] == 60
    assert engine.show("i1").text == "i1"
