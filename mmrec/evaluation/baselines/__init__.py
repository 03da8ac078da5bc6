"""What every model has to be compared with, in the same run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmrec.evaluation.baselines.content_mean import ContentMean
    from mmrec.evaluation.baselines.item_knn import ItemKNN
    from mmrec.evaluation.baselines.popularity import Popularity
    from mmrec.evaluation.baselines.random_order import RandomOrder
    from mmrec.evaluation.baselines.recent import RecentPopularity

__all__ = ["ContentMean", "ItemKNN", "Popularity", "RandomOrder", "RecentPopularity"]

_HOMES = {
    "ContentMean": "content_mean",
    "ItemKNN": "item_knn",
    "Popularity": "popularity",
    "RandomOrder": "random_order",
    "RecentPopularity": "recent",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmrec.evaluation.baselines.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
