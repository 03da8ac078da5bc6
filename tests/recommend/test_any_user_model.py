"""Any model of people fits in: one that only turns the space gives the very lists of the contents."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from indexers.live import LiveIndex
from mmrec.recommend.answer import ListOptions
from mmrec.recommend.recommender import Recommender
from mmrec.recommend.user_item_space import UserItemSpace
from mmrec.unit import unit
from mmrec.users.interests import ContentInterests
from mmrec.users.model import Interests, UserModel


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


def turned_space(snapshot, kind=Turned, trained=False) -> UserItemSpace:
    content = snapshot.generation.fusion.dim
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(content + 2, content + 2)))[0][:content].astype(
        np.float32
    )
    model = kind(turn)
    rows = snapshot.index.rows
    index = LiveIndex(model.dim, "ip")
    index.add(rows, model.items(rows, snapshot.vectors(rows.tolist())))

    def contents(wanted):
        return snapshot.vectors(wanted.tolist())

    def vectors(wanted):
        return model.items(wanted, contents(wanted))

    return UserItemSpace(model, index, vectors, contents, lambda person, item: {"taste": float(person @ item)}, trained)


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


@dataclass(frozen=True)
class Trained(Turned):
    """Places a user by the mean of all items met, disliked ones too; its scores are as close together as is wanted."""

    share: float = 1.0

    def items(self, rows, contents):
        turned = np.sqrt(self.share) * unit(contents @ self.turn[:, :-1])
        common = np.full((len(contents), 1), np.sqrt(1 - self.share))
        return np.concatenate([turned, common], axis=1).astype(np.float32)

    def users(self, histories, vectors, now=None):
        return [
            Interests(unit(some.mean(axis=0, keepdims=True)), np.ones(1, dtype=np.float32), 1.0) for some in vectors
        ]


def test_negative_feedback_counts_alike_whatever_the_scale_of_a_trained_models_scores(far) -> None:
    engine = far.engine
    liked, asked = [f"5-{one}" for one in range(3)], [f"3-{one}" for one in range(3)]
    lists = {}
    for share in (0.9, 0.03):
        space = partial(turned_space, kind=partial(Trained, share=share), trained=True)
        recommender = Recommender(engine._fresh_snapshot, engine._queries, engine._events, space)
        for kind in ("like", "dislike"):
            history = [*[(item, kind) for item in asked], *[(item, "like") for item in liked]]
            lists[kind, share] = recommender.recommend(None, history, None, ListOptions(k=40))
    for kind in ("like", "dislike"):
        one, other = ([hit.id for hit in lists[kind, share].hits] for share in (0.9, 0.03))
        assert one == other
    assert far.clusters_of(lists["like", 0.03]).count(3) >= 10
    assert far.clusters_of(lists["dislike", 0.03])[:20] == [5] * 20
