"""Two generations of a store, asked the same."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_store import Cheap

import mmrec
from mmrec.encoders.queries import best_encoders, covers
from mmrec.errors import SpaceMismatchError, UsageError
from mmrec.indexing import reindex_items
from mmrec.jobs.compare import compare_generations, overlap, quality_of
from mmrec.jobs.judged_queries import JudgedQuery, read_judged_queries
from mmrec.queries import QueryMaker
from mmrec.query import Part
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

NAMES = tuple(f"i{n}" for n in range(60))
SCHEMA = pa.schema([("number", pa.int64())])


class Groups(Cheap):
    """Texts by their first word alone: what begins alike is alike."""

    spaces = {Modality.TEXT: (Space("groups", 16, "f" * 40),)}  # noqa: RUF012

    def encode(self, modality, samples):
        firsts = [type(one)(np.array([str(one.tensor[0]).split()[0]]), one.cost) for one in samples]
        own = super().encode(modality, samples)["cheap"]
        vectors = super().encode(modality, firsts)["cheap"] + 0.1 * own
        return {"groups": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}


def item(name: str) -> Item:
    return Item(name, (Field(Modality.TEXT, "title", text=f"g{int(name[1:]) % 12} {name}"),), {"number": 1}, -1)


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "store")
    how = mmrec.Indexing(encoder_source="plain")
    mmrec.index_items([item(name) for name in NAMES], SCHEMA, layout, [Cheap()], how)
    reindex_items(layout, [Groups()], mmrec.Indexing(encoder_source="groups"))
    return layout


def maker_of(generation):
    encoders = {"plain": [Cheap()], "groups": [Groups()]}
    return QueryMaker(encoders.__getitem__, MediaAccess())


def queries(kind="text"):
    """For each item those of its group; an item is no answer to itself."""
    return [
        JudgedQuery(
            Part(kind, f"g{n % 12} asks {n}" if kind == "text" else name),
            tuple(other for at, other in enumerate(NAMES) if at % 12 == n % 12 and (kind == "text" or other != name)),
        )
        for n, name in enumerate(NAMES)
    ]


@pytest.mark.parametrize("kind", ["text", "item"])
def test_the_space_that_knows_the_groups_answers_better(layout, kind):
    found = compare_generations(layout, (1, 2), queries(kind), maker_of, k=5)
    assert (found.queries, found.answered, found.judged, found.unknown) == (60, 60, 60, 0)
    assert [(side.number, side.encoders, side.items) for side in found.sides] == [(1, "plain", 60), (2, "groups", 60)]
    assert [side.recall.recall for side in found.sides] == [1.0, 1.0]
    assert found.quality.verdict == "better"
    assert [measure.metric for measure in found.quality.measures] == ["ndcg@5", "mrr@5", "r@1", "r@5"]
    for measure in found.quality.measures:
        assert measure.other.mean > 0.95
        assert measure.difference.low > 0
        assert measure.difference.mean == pytest.approx(measure.other.mean - measure.one.mean)
    assert found.overlap.mean < 0.5
    back = compare_generations(layout, (2, 1), queries(kind), maker_of, k=5)
    assert (back.quality.verdict, back.overlap) == ("worse", found.overlap)


def test_lists_are_those_of_a_search(layout):
    engine = mmrec.open(layout.root, encoders=[Groups()])
    asked = [JudgedQuery(Part("text", "g3 x"), tuple(hit.id for hit in engine.search("g3 x", k=5).hits))]
    found = compare_generations(layout, (1, 2), asked, maker_of, k=5)
    assert {measure.metric: measure.other.mean for measure in found.quality.measures}["ndcg@5"] == pytest.approx(1)


def test_a_generation_is_like_itself(layout):
    found = compare_generations(layout, (2, 2), queries(), maker_of)
    assert (found.overlap.low, found.overlap.mean, found.overlap.high) == (1, 1, 1)
    assert found.quality.verdict == "no difference"
    assert {measure.difference.mean for measure in found.quality.measures} == {0}


def test_queries_that_cannot_be_answered_are_counted(layout):
    asked = [*queries()[:3], JudgedQuery(Part("item", "none")), JudgedQuery(Part("text", "cannot"), ("i1",))]
    found = compare_generations(layout, (1, 2), asked, maker_of)
    assert (found.queries, found.answered, found.judged) == (5, 3, 3)
    assert [side.unanswered for side in found.sides] == [2, 2]
    assert any("no item 'none'" in reason for reason in found.sides[0].reasons)
    with pytest.raises(UsageError, match=r"1 and 2 have no query that both can answer: there is no item 'none'"):
        compare_generations(layout, (1, 2), asked[3:4], maker_of)


def test_without_what_is_right_nothing_is_said_of_quality(layout):
    found = compare_generations(layout, (1, 2), [JudgedQuery(Part("text", "g1"), ("gone",))], maker_of)
    assert (found.quality, found.judged, found.unknown) == (None, 0, 1)
    assert np.isnan(found.overlap.low)


def test_what_came_after_a_move_is_found_in_its_own_space_alone(layout):
    engine = mmrec.open(layout.root, encoders=[Groups()])
    engine.upsert([item("i99")], SCHEMA)
    engine.delete("i0")
    found = compare_generations(layout, (1, 2), [JudgedQuery(Part("item", "i99")), *queries()], maker_of)
    assert [side.items for side in found.sides] == [59, 60]
    assert [side.unanswered for side in found.sides] == [1, 0]
    assert found.unknown == 1


def test_a_generation_that_is_not_there(layout):
    with pytest.raises(UsageError, match=r"has no generation 7; there are \[1, 2\]"):
        compare_generations(layout, (1, 7), queries(), maker_of)


def test_other_encoders_than_a_generation_s_are_no_unanswered_query(layout):
    class Other(Groups):
        spaces = {Modality.TEXT: (Space("groups", 16, "0" * 40),)}  # noqa: RUF012

    with pytest.raises(SpaceMismatchError, match="groups"):
        compare_generations(layout, (2, 2), queries(), lambda _: QueryMaker(lambda _: [Other()], MediaAccess()))


@given(st.permutations(range(12)), st.permutations(range(12)), st.integers(1, 12))
def test_overlap_is_a_share_of_both(one, other, k):
    assert overlap(one[:k], other[:k]) == overlap(other[:k], one[:k]) == len(set(one[:k]) & set(other[:k])) / k
    assert overlap(one[:k], one[:k]) == overlap([], []) == 1
    assert overlap(one[:k], []) == 0


@pytest.mark.slow
@settings(deadline=None)
@given(st.data())
def test_figures_are_those_of_their_definitions(data):
    lists = [data.draw(st.permutations(range(8))) for _ in range(6)]
    right = [data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)) for _ in lists]
    k = data.draw(st.integers(2, 6))
    found = quality_of([one[:k] for one in lists], [one[::-1][:k] for one in lists], right, np.arange(6), k)
    gains = {"ndcg": 0.0, "mrr": 0.0, "r1": 0.0, "rk": 0.0}
    for rows, wanted in zip(lists, right, strict=True):
        hits = [row in wanted for row in rows[:k]]
        best = sum(1 / np.log2(rank + 2) for rank in range(min(k, len(wanted))))
        gains["ndcg"] += sum(hit / np.log2(rank + 2) for rank, hit in enumerate(hits)) / best / 6
        gains["mrr"] += next((1 / (rank + 1) for rank, hit in enumerate(hits) if hit), 0) / 6
        gains["r1"] += hits[0] / 6
        gains["rk"] += any(hits) / 6
    assert [measure.one.mean for measure in found.measures] == pytest.approx(list(gains.values()))


def test_files_of_queries(tmp_path):
    rows = [{"text": "a", "relevant": ["x", "y", "x"]}, {"id": "7", "relevant": "z"}, {"text": "b"}]
    expected = [
        JudgedQuery(Part("text", "a"), ("x", "y")),
        JudgedQuery(Part("item", "7"), ("z",)),
        JudgedQuery(Part("text", "b")),
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "q.csv").write_text('text,id,relevant\na,,"[""x"", ""y""]"\n,7,z\nb,,\n')
    table = pa.table({"text": ["a", None, "b"], "id": [None, 7, None], "relevant": [["x", "y"], ["z"], None]})
    pyarrow.parquet.write_table(table, tmp_path / "q.parquet")
    for name in ("q.jsonl", "q.csv", "q.parquet"):
        assert read_judged_queries(tmp_path / name) == expected, name
    (tmp_path / "m.csv").write_text("image\nboat.png\n")
    assert read_judged_queries(tmp_path / "m.csv") == [JudgedQuery(Part("image", str(tmp_path / "boat.png")))]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("query\nred\n", "no column that could be a query.*'text'.*It has 'query'"),
        ("text,id\na,b\n", "line 2: a query is one of 'text', 'id'; this row has 'text' and 'id'"),
        ("text,id\na,\n,\n", "line 3: .*this row has none"),
        ("text,relevant\na,[x\n", "line 2: .*no JSON list"),
        ("text,relevant\na,b,c\n", "line 2.*3 cells where the header has 2"),
        ("text\n", "holds no query"),
    ],
)
def test_bad_files_of_queries(tmp_path, text, told):
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(UsageError, match=told):
        read_judged_queries(tmp_path / "q.csv")


def test_the_encoders_that_fill_most_of_a_generation_s_spaces_are_its_own():
    class Both(Groups):
        spaces = {Modality.TEXT: (*Groups.spaces[Modality.TEXT], *Cheap.spaces[Modality.TEXT])}  # noqa: RUF012

    class Other(Groups):
        spaces = {Modality.TEXT: (Space("groups", 16, "0" * 40),)}  # noqa: RUF012

    (groups,), (cheap,) = Groups.spaces[Modality.TEXT], Cheap.spaces[Modality.TEXT]
    sets = ([Other()], [Both()], [Groups()], [Cheap()])
    assert best_encoders(sets, [groups]) is sets[2]
    assert best_encoders(sets, [cheap]) is sets[3]
    assert best_encoders(sets, [groups, cheap]) is sets[1]
    assert best_encoders(sets[:1], [groups]) is best_encoders([], [groups]) is None
    assert covers(sets[1], [groups, cheap])
    assert not covers(sets[2], [groups, cheap])
    assert not covers(sets[0], [groups])


OWN = """
import sys

import torch

sys.path.append({tests!r})
from {module} import {name}

def made(device, dtype):
    encoder = {name}()
    encoder.module = torch.nn.Identity()
    return encoder
"""


def test_the_command(layout, tmp_path, root, capsys):
    for name, module in (("Cheap", "small_store"), ("Groups", "test_comparing")):
        own = OWN.format(tests=str(root / "tests"), module=module, name=name)
        (tmp_path / f"own_{name.lower()}.py").write_text(own)
        (tmp_path / f"{name}.toml").write_text(f'[[encoders]]\nfactory = "own_{name.lower()}.made"\n')
    rows = [{"text": query.part.value, "relevant": list(query.relevant)} for query in queries()]
    file = tmp_path / "queries.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["compare", str(layout.root), "--generations", "1", "2", "--queries", str(file)]
    given_encoders = [part for name in ("Cheap", "Groups") for part in ("--encoders", str(tmp_path / f"{name}.toml"))]

    assert run_app(app, [*line, *given_encoders, "-k", "5", "--json"]) == ExitCode.DONE
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert (told["verdict"], told["answered"], [one["number"] for one in told["generations"]]) == ("better", 60, [1, 2])
    assert told["quality"]["ndcg@5"]["difference"]["low"] > 0
    assert told["sentences"][1].startswith("Generation 2 answers better than generation 1: NDCG@5 of 60 judged queries")
    assert told["sentences"][1] in printed.err

    assert run_app(app, [*line, *given_encoders, "--against", "text"]) == ExitCode.DONE
    printed = capsys.readouterr()
    assert "NDCG@10" in printed.out
    assert "recall of index" in printed.out

    assert run_app(app, line) != ExitCode.DONE
    assert "the encoders of 'plain'" in " ".join(capsys.readouterr().err.split())
    assert run_app(app, [*line[:3], "1", "9", *line[5:], *given_encoders]) != ExitCode.DONE
    assert "no generation 9; there are [1, 2]" in " ".join(capsys.readouterr().err.split())
