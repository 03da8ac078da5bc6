"""Curves of a training, for TensorBoard and as a picture."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from matplotlib.figure import Figure
from torch.utils.tensorboard.writer import SummaryWriter

from mmrec.training.loop import Epoch

__all__ = ["Board", "draw_curves"]


class Board:
    """Writes each epoch for TensorBoard; a context that closes its file."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def add(self, epoch: Epoch) -> None:
        """Write one epoch."""
        values = {"loss": epoch.loss, "scale": epoch.scale, "seconds": epoch.seconds, "validation/ndcg@10": epoch.ndcg}
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch.epoch)


def draw_curves(curve: Sequence[Epoch], path: Path) -> None:
    """Draw loss and validation NDCG@10 over epochs into a PNG."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    left = figure.add_subplot()
    left.plot([point.epoch for point in curve], [point.loss for point in curve], color="tab:blue")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="tab:blue")
    judged = [(point.epoch, point.ndcg) for point in curve if point.ndcg is not None]
    right = left.twinx()
    right.plot([epoch for epoch, _ in judged], [ndcg for _, ndcg in judged], color="tab:orange", marker=".")
    right.set_ylabel("validation NDCG@10", color="tab:orange")
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    figure.savefig(beside, format="png", dpi=120)
    beside.replace(path)
