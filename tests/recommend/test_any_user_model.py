"""Any model of people fits in: one that only turns the space gives the very lists of the contents."""

from dataclasses import dataclass

import numpy as np
import pytest

from indexers.live import LiveIndex
from mmrec.recommend.answer import ListOptions
from mmrec.recommend.recommender import Recommender
from mmrec.recommend.user_item_space import UserItemSpace
from mmrec.users.interests import ContentInterests
from mmrec.users.model import UserModel


@dataclass(frozen=True)
class Turned:
    """Content interests in a space turned around its origin, as long as the content's and two numbers longer."""

    turn: np.ndarray

    @property
    def name(self) -> str:
        return "turned"

    @property
    def dim(self) -> int:
        return self.turn.shape[1]

    def items(self, rows, contents):
        return (contents @ self.turn).astype(np.float32)

    def users(self, histories, vectors, now=None):
        return ContentInterests(self.dim).users(histories, vectors, now)


def turned_space(snapshot) -> UserItemSpace:
    content = snapshot.generation.fusion.dim
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(content + 2, content + 2)))[0][:content].astype(
        np.float32
    )
    model = Turned(turn)
    rows = snapshot.live.rows
    index = LiveIndex(model.dim, "ip")
    index.add(rows, model.items(rows, snapshot.vectors(rows.tolist())))

    def contents(wanted):
        return snapshot.vectors(wanted.tolist())

    def vectors(wanted):
        return model.items(wanted, contents(wanted))

    return UserItemSpace(model, index, vectors, contents, lambda person, item: {"taste": float(person @ item)})


@pytest.mark.parametrize(
    ("history", "text"),
    [
        ([("3-1", "like"), ("3-4", "view"), ("8-2", "view")], None),
        ([("3-1", "like"), ("8-2", "view"), ("8-5", "hide")], None),
        ([], "7 0"),
        ([("3-1", "like")], "7 0"),
        ([], None),
    ],
)
@pytest.mark.parametrize("diversity", [0.0, 0.4])
def test_a_turned_space_gives_the_same_list(far, history, text, diversity) -> None:
    assert isinstance(Turned(np.eye(2, dtype=np.float32)), UserModel)
    engine = far.engine
    turned = Recommender(engine._fresh_snapshot, engine._queries, engine._events, turned_space)
    found = turned.recommend(None, history, text, ListOptions(diversity=diversity, explain=True))
    plain = engine.recommend(history=history, text=text, diversity=diversity, explain=True)
    assert found.model == "turned"
    assert [hit.id for hit in found.hits] == [hit.id for hit in plain.hits]
    assert [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in plain.hits], abs=2e-3)
    assert [hit.because for hit in found.hits] == [hit.because for hit in plain.hits]
    assert all(set(hit.shares) <= {"taste", "popular"} for hit in found.hits)
