"""Evaluation: how well people are served, measured on events that nothing was fitted on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrec.evaluation.evaluating import Evaluation, Protocol, evaluate, fit
    from mmrec.evaluation.questions import Candidates, Questions
    from mmrec.evaluation.ranking import Ranked, rank
    from mmrec.evaluation.report import EvaluationPage, render
    from mmrec.evaluation.scorer import Learner, Scorer, UserModelScorer

__all__ = [
    "Candidates",
    "Evaluation",
    "EvaluationPage",
    "Learner",
    "Protocol",
    "Questions",
    "Ranked",
    "Scorer",
    "UserModelScorer",
    "evaluate",
    "fit",
    "rank",
    "render",
]

_HOMES = {
    "Candidates": "candidates",
    "Evaluation": "evaluation",
    "Learner": "scorer",
    "Protocol": "evaluation",
    "Questions": "questions",
    "Ranked": "ranking",
    "Report": "report",
    "Scorer": "scorer",
    "UserModelScorer": "user_model",
    "evaluate": "evaluating",
    "fit": "evaluating",
    "rank": "ranking",
    "render": "report",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmrec.evaluation.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
