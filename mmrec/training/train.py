"""Train a user tower on histories and item contents, validated by full ranking of the catalog."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor, nn

from mmrec.errors import UsageError
from mmrec.events.histories import Histories
from mmrec.events.kinds import DEFAULT_WEIGHTS
from mmrec.events.splits import Split
from mmrec.training.config import TrainingConfig
from mmrec.training.objective import TowerObjective
from mmrec.training.trainer import Board, Epoch, Loop, accelerator_for, draw_curves
from mmrec.training.windows import Events, Windows, batch_of
from mmrec.users.networks import Sequences, fit_whitening
from mmrec.users.tower import Tower, TowerModel, save_tower


def mid_ranks(
    scores: Float[Tensor, "n m"], targets: Int64[Tensor, " n"], left_out: Bool[Tensor, "n m"]
) -> Float64[np.ndarray, " n"]:
    """Rank of each target from 1, ties at their mean rank, among the items that are not left out."""
    own = scores.gather(1, targets.unsqueeze(1))
    competing = ~left_out
    competing.scatter_(1, targets.unsqueeze(1), False)
    above = ((scores > own) & competing).sum(dim=1)
    equal = ((scores == own) & competing).sum(dim=1)
    return (1 + above + equal / 2).double().cpu().numpy()


def mean_ndcg(ranks: Float64[np.ndarray, " n"], k: int = 10) -> float:
    """Mean of ``1 / log2(1 + rank)`` where the rank is k or better, with one relevant item each; 0 of none."""
    gains = np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)
    return float(gains.mean()) if len(gains) else 0.0


_AT_ONCE = 128


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Events to predict, each among all items that its person had not met by then.

    Attributes:
        events: Everything that people did, items as places in the catalog.
        targets: Places in `events` of the events to predict.
        rows: Row numbers of the catalog.
        contents: Their contents; None for a tower without content.
        among: Which of the catalog compete; all if None.

    """

    events: Events
    targets: Int64[np.ndarray, " n"]
    rows: Int64[np.ndarray, " items"]
    contents: Float[Tensor, "items content"] | None
    among: Bool[np.ndarray, " items"] | None = None

    @torch.no_grad()
    def ranks(self, tower: Tower) -> Float64[np.ndarray, " n"]:
        """Mid-rank of each target from 1; infinite where the tower cannot place its item."""
        was_training = tower.training
        tower.eval()
        device = tower.log_scale.device
        places = tower.items.places(torch.from_numpy(self.rows).to(device))
        white = None if self.contents is None else tower.items.whiten(self.contents.to(device))
        vectors = tower.items(white, places)
        placed = torch.ones_like(places, dtype=torch.bool) if white is not None else places >= 0
        found = [
            self._ranks(tower, vectors, placed, self.targets[start : start + _AT_ONCE])
            for start in range(0, len(self.targets), _AT_ONCE)
        ]
        tower.train(was_training)
        return np.concatenate(found) if found else np.empty(0)

    def _ranks(
        self, tower: Tower, vectors: Float[Tensor, "items dim"], placed: Tensor, targets: Int64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        device = vectors.device
        firsts = self.events.offsets[np.searchsorted(self.events.offsets, targets, side="right") - 1]
        windows = Windows(np.maximum(firsts, targets - tower.config.window), targets)
        batch = batch_of(self.events, windows, np.arange(len(targets))).to(device)
        given = nn.functional.embedding(batch.items, vectors)
        read = tower.people(Sequences(given, batch.kinds, batch.liked, batch.times, batch.asked, batch.ratings))
        at = torch.arange(len(targets), device=device)
        newest = torch.from_numpy(np.maximum(windows.stops - windows.starts - 1, 0)).to(device)
        scores = tower.scale * torch.einsum("nmd,id->nmi", read.vectors[at, newest], vectors)
        scores = torch.logsumexp(scores + read.log_shares[at, newest].unsqueeze(2), dim=1)
        # Nothing is known of who has done nothing: all items are alike to them.
        scores[torch.from_numpy(windows.stops == windows.starts)] = 0
        met = np.concatenate([self.events.items[first:target] for first, target in zip(firsts, targets, strict=True)])
        out = (~placed).repeat(len(targets), 1)
        if self.among is not None:
            out |= torch.from_numpy(~self.among).to(device)
        out[torch.from_numpy(np.repeat(np.arange(len(targets)), targets - firsts)), torch.from_numpy(met)] = True
        wanted = torch.from_numpy(self.events.items[targets]).to(device)
        ranks = mid_ranks(scores, wanted, out)
        ranks[~placed[wanted].cpu().numpy()] = np.inf
        return ranks


@dataclass(frozen=True, slots=True, eq=False)
class TrainingTask:
    """Histories to learn from, and events to predict.

    Attributes:
        train: What is learned from.
        live: Histories with the events to predict in them.
        validation: Places of these in `live`, ascending; what a person did before may be looked at.

    """

    train: Histories
    live: Histories
    validation: Int64[np.ndarray, " n"]


def task_of(data: Split | Histories, weights: Mapping[str, float], most: int, seed: int) -> TrainingTask:
    """Make a task of a split with validation events, or hold out each person's last event that speaks for its item.

    At most `most` people are asked about, drawn by the seed. Of a split, only what may be learned from is held out: the
    time split has no validation events of its own. Raises UsageError where there is nothing to learn from.
    """
    if isinstance(data, Split) and len(data.validation):
        task = TrainingTask(data.train, data.live, data.validation)
    else:
        histories = data.train if isinstance(data, Split) else data
        task = _held_out(histories, weights)
    if not len(task.train.items) or (task.train.lengths < 2).all():
        raise UsageError("There is nothing to learn from: nobody has two events. Import more of them.")
    if len(task.validation) > most:
        drawn = np.random.default_rng([seed, most]).choice(task.validation, most, replace=False)
        task = TrainingTask(task.train, task.live, np.sort(drawn))
    return task


def _held_out(histories: Histories, weights: Mapping[str, float]) -> TrainingTask:
    places = np.flatnonzero(histories.weights(weights, 1.0) > 0)
    owners = histories.owners[places]
    newest = np.append(owners[1:] != owners[:-1], np.ones(min(1, len(owners)), dtype=bool))
    newest &= places - histories.offsets[owners] >= 2
    held = places[newest]
    first_held = histories.offsets[1:].copy()
    first_held[histories.owners[held]] = held
    before = np.arange(len(histories.items)) < first_held[histories.owners]
    return TrainingTask(histories.keep(before), histories, held)


CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a training went.

    Attributes:
        curve: Each epoch.
        best_epoch: The one whose weights are kept.
        ndcg: Its NDCG@10 on validation.
        items: Items that training knew.
        people: People it learned from.
        events: Their events.

    """

    curve: tuple[Epoch, ...]
    best_epoch: int
    ndcg: float
    items: int
    people: int
    events: int


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it."""

    model: TowerModel
    report: TrainingReport


def train(
    data: Split | Histories,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
    folder: Path,
    weights: Mapping[str, float] = DEFAULT_WEIGHTS,
    said: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train a tower, or go on with a training that was interrupted.

    Args:
        data: What may be learned from. Validation events are those of the split, or else each person's last one.
        contents: Fused content vectors.
        rows: Row number of each.
        config: Sizes and settings.
        folder: Where results are kept; made if it is not there.
        weights: Weight of each kind of event; those at 0 or below are looked at, but are not to be predicted.
        said: Called with each epoch that is done.

    Raises:
        UsageError: There is nothing to learn from, an item has no content, or the folder holds another training.

    """
    task = task_of(data, weights, config.validation_people, config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = accelerator_for(config)
    with torch.random.fork_rng(enabled=True):
        loop = prepare(task, contents, rows, config, accelerator, weights)
        with Board(folder / "tensorboard") if accelerator.is_main_process else nullcontext() as board:

            def heard(epoch: Epoch) -> None:
                if board is not None:
                    board.add(epoch)
                if said is not None:
                    said(epoch)

            curve = loop.run(folder / CHECKPOINT, _fingerprint(task, contents, rows, config), heard)
    model = TowerModel(loop.objective.tower.eval().cpu())
    if accelerator.is_main_process:
        save_tower(model, folder)
        draw_curves(curve, folder / "curves.png")
    accelerator.wait_for_everyone()
    known, lengths, at = len(model.tower.items.rows), task.train.lengths, loop.at
    return Trained(model, TrainingReport(tuple(curve), at.best_epoch, at.best, known, len(lengths), int(lengths.sum())))


def prepare(
    task: TrainingTask,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
    accelerator: Accelerator,
    weights: Mapping[str, float],
) -> Loop:
    """Make everything that a training needs, at its beginning. Raises UsageError."""
    order = np.argsort(rows, kind="stable")
    rows, contents = rows[order], contents[order]
    _check_items(task, rows)
    kinds = config.tower.kinds or task.train.kind_names
    ratings = config.tower.ratings or task.train.strengths is not None
    sizes = config.tower.model_copy(update={"kinds": kinds, "ratings": ratings})
    known, counts = np.unique(task.train.items, return_counts=True)
    torch.manual_seed(config.seed)
    own = contents[np.searchsorted(rows, known)]
    tower = Tower(sizes, torch.from_numpy(known), fit_whitening(own, sizes.white) if sizes.content else None)
    white = tower.items.whiten(torch.from_numpy(own)) if sizes.content else None
    objective = TowerObjective(tower, white, torch.from_numpy(counts), config)
    asked = Ranking(
        Events.of(task.live, rows, kinds, weights),
        task.validation,
        rows,
        torch.from_numpy(contents) if sizes.content else None,
    )
    learned = Events.of(task.train, known, kinds, weights)
    return Loop(objective, learned, lambda: mean_ndcg(asked.ranks(tower)), config, accelerator)


def _check_items(task: TrainingTask, rows: Int64[np.ndarray, " items"]) -> None:
    if (rows[1:] == rows[:-1]).any():
        raise UsageError("Two items have one row number; each item may be given once.")
    missing = np.setdiff1d(np.concatenate([task.train.items, task.live.items]), rows)
    if len(missing):
        raise UsageError(
            f"{len(missing)} items of the histories have no content, among them row {missing[0]}: clean the events "
            "with the items that the generation holds."
        )


def _fingerprint(
    task: TrainingTask,
    contents: Float32[np.ndarray, "items content"],
    rows: Int64[np.ndarray, " items"],
    config: TrainingConfig,
) -> str:
    """Everything that decides each step; how long to go on does not."""
    seen = sha256(config.model_dump_json(exclude={"epochs", "patience", "device"}).encode())
    seen.update((task.train.digest() + task.live.digest()).encode())
    for array in (task.validation, rows, contents):
        seen.update(np.ascontiguousarray(array).tobytes())
    return seen.hexdigest()
