"""Curves of a training, for TensorBoard and as a picture."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from matplotlib.figure import Figure
from torch.utils.tensorboard.writer import SummaryWriter

from indexers.atomic import atomic_file
from mmrec.training.course import Epoch

__all__ = ["Board", "draw_curves"]

_NDCG = "NDCG@10"


class Board:
    """Writes each epoch for TensorBoard; a context that closes its file."""

    def __init__(self, folder: Path, score: str = _NDCG) -> None:
        """Take the folder of its files, and the name of what validation measures."""
        self._writer, self._score = SummaryWriter(str(folder)), score

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def add(self, epoch: Epoch) -> None:
        """Write one epoch."""
        values = {"loss": epoch.loss, "scale": epoch.scale, "seconds": epoch.seconds}
        values |= {} if epoch.score is None else {f"validation/{self._score.lower()}": epoch.score}
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch.epoch)


def draw_curves(curve: Sequence[Epoch], path: Path, score: str = _NDCG) -> None:
    """Draw the loss, and what validation measures, over epochs into a PNG."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    left = figure.add_subplot()
    left.plot([point.epoch for point in curve], [point.loss for point in curve], color="tab:blue")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="tab:blue")
    judged = [(point.epoch, point.score) for point in curve if point.score is not None]
    right = left.twinx()
    right.plot([epoch for epoch, _ in judged], [found for _, found in judged], color="tab:orange", marker=".")
    right.set_ylabel(f"validation {score}", color="tab:orange")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
