"""Evaluation: how well people are served, measured on events that nothing was fitted on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrec.evaluation.candidates import Candidates
    from mmrec.evaluation.questions import Questions
    from mmrec.evaluation.ranking import Ranked, rank
    from mmrec.evaluation.scorer import Learner, Scorer
    from mmrec.evaluation.user_model import UserModelScorer

__all__ = ["Candidates", "Learner", "Questions", "Ranked", "Scorer", "UserModelScorer", "rank"]

_HOMES = {
    "Candidates": "candidates",
    "Learner": "scorer",
    "Questions": "questions",
    "Ranked": "ranking",
    "Scorer": "scorer",
    "UserModelScorer": "user_model",
    "rank": "ranking",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmrec.evaluation.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
