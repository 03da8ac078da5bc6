"""What fine-tuning learns, and what it is asked about items that are held out of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float64, Int64

from mmrec.finetuning.objective import Objective
from mmrec.finetuning.questions import Questions

__all__ = ["SENTENCES", "Kind", "Task"]

Kind = Literal["align", "coengage", "label"]
SENTENCES: Final[Mapping[str, str]] = {
    "align": "Contents of different kinds that are of one item attract each other.",
    "coengage": "Items that the same people take one after the other attract each other.",
    "label": "Items of one label attract each other.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is learned, and what is asked.

    Attributes:
        objective: The objective.
        train: The items that are learned from.
        validation: Questions that say when to stop.
        test: Questions that say whether it helped.
        whole_items: Whether whole items are compared rather than single contents.
        counts: How much is learned from.
        metric: What is judged by. Of one label there are many items: one of them is near the top in any case, and only
            whether it is the first of all tells anything. Held-out items may be few, so that R@10 would be reached by
            chance; the reciprocal rank tells apart wherever the answer stands.
        learned: What of a store or a log, beside its contents, decides the steps: pairs of items, or labels.
        targets: Where items should lie for heads in closed form, a row each, zero for those of which nothing is known;
            None where a frozen modality says so.

    """

    objective: Objective
    train: Int64[np.ndarray, " n"]
    validation: Questions
    test: Questions
    whole_items: bool
    counts: Mapping[str, int]
    metric: str = "mrr"
    learned: tuple[Int64[np.ndarray, " _"], ...] = ()
    targets: Callable[[], Float64[np.ndarray, "items _"]] | None = None
