"""Split events into training, validation and test: by time, leave-one-out, items or users held out.

Nothing after the cutoff reaches the training part: it is cut first, and cleaned on its own, so that not even a robot
that shows later changes it.
"""

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from mmrec.errors import UsageError
from mmrec.events.cleaning import Cleaning, CleaningReport, clean
from mmrec.events.event import EventArrays
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.ratings import read_ratings


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A training part, and events to predict.

    Attributes:
        train: Training histories.
        live: All histories. To predict a target, a model may use that user's earlier events, and no other of theirs.
        targets: Positions in `live` of the events to predict, ascending; all have a weight above 0.
        validation: Positions in `live` of events to predict during training, none of them a target.
        cutoff: End of training in microseconds since 1970; None where the split is not by time.
        cold_rows: Row numbers of the items that were held out of training, ascending.
        cold_users: Ids of the users who were held out of training.
        report: What cleaning removed from the training part; None where the split took cleaned histories.

    """

    train: Histories
    live: Histories
    targets: Int64[np.ndarray, " targets"]
    validation: Int64[np.ndarray, " validation"]
    cutoff: int | None = None
    cold_rows: Int64[np.ndarray, " cold"] | None = None
    cold_users: pa.StringArray | None = None
    report: CleaningReport | None = None

    @property
    def users(self) -> int:
        """Number of users with a target."""
        return len(np.unique(self.live.owners[self.targets]))

    def history(self, target: int) -> slice:
        """Positions in `live` of the events of the same user before a target."""
        user = int(np.searchsorted(self.live.offsets, target, side="right")) - 1
        return slice(int(self.live.offsets[user]), target)

    def train_and_validation(self) -> Histories:
        """All events before the targets, for models without validation; held-out items and users stay out."""
        if not len(self.validation):
            return self.train
        owners, first = self.live.owners, self.live.offsets[1:].copy()
        np.minimum.at(first, owners[self.targets], self.targets)
        keep = np.arange(len(owners)) < first[owners]
        if self.cold_rows is not None:
            keep &= ~np.isin(self.live.items, self.cold_rows)
        if self.cold_users is not None:
            keep &= ~pc.is_in(self.live.user_ids, self.cold_users).to_numpy(zero_copy_only=False)[owners]
        return self.live.keep(keep)

    def last_only(self) -> Self:
        """The variant with each user's last target only."""
        return replace(self, targets=_last_of_each(self.live, self.targets))


def time_cutoff(events: EventArrays, quantile: float, rules: Cleaning | None = None, now: int | None = None) -> int:
    """Return the time before which a share of the cleaned events lie, in microseconds since 1970.

    Raises UsageError where the share is not between 0 and 1, or there are no events.
    """
    if not 0 < quantile < 1:
        raise UsageError(f"The quantile of the cutoff is {quantile}; it must lie between 0 and 1, such as 0.8.")
    times = np.sort(clean(events, rules, now=now)[0].times)
    if not len(times):
        raise UsageError("There are no events to split: import some first.")
    return int(times[int(quantile * len(times))])


def time_split(
    events: EventArrays, known: KnownItems, cutoff: int, rules: Cleaning | None = None, now: int | None = None
) -> Split:
    """Train on the events before a time; every later event is a target, predicted from its user's earlier events.

    The events are those of the log, not cleaned: the training part is cleaned on its own, as of the cutoff, and the
    later part as of `now`, the clock's if None. The minimum numbers of events in `rules` hold for training alone.
    """
    rules = Cleaning() if rules is None else rules
    before, report = clean(events.take(events.times < cutoff), rules, known, now=cutoff)
    served = replace(rules, user_events=1, item_events=1)
    ratings = read_ratings(before, rules.kinds)
    live = Histories.of(clean(events, served, known, now)[0], known, ratings)
    targets = np.flatnonzero((live.times >= cutoff) & _wanted(live, rules))
    none = np.empty(0, dtype=np.int64)
    return Split(Histories.of(before, known, ratings), live, targets, none, cutoff, report=report)


def leave_one_out(histories: Histories, rules: Cleaning | None = None) -> Split:
    """Test on each user's last event, validate on the one before, and train on the events before these.

    Many papers compare in this way; it lets a model use, for one user, later events of others. Events with a weight of
    0 or below, low ratings included, are no targets. Users with fewer than three others are only trained on.
    """
    wanted = np.flatnonzero(_wanted(histories, Cleaning() if rules is None else rules))
    owners = histories.owners
    enough = np.bincount(owners[wanted], minlength=len(histories)) >= 3
    wanted = wanted[enough[owners[wanted]]]
    targets = _last_of_each(histories, wanted)
    validation = _last_of_each(histories, np.setdiff1d(wanted, targets))
    first_held = histories.offsets[1:].copy()
    first_held[owners[validation]] = validation
    train = histories.keep(np.arange(len(owners)) < first_held[owners])
    return Split(train, histories, targets, validation)


def hold_out_items(split: Split, known: KnownItems, share: float = 0.1, seed: int = 0) -> Split:
    """Take a share of all items out of training, as if they were new.

    The choice depends on the seed and the known ids alone, not on events. Targets stay: `cold_rows` separates those on
    cold items. Cold items are removed from validation, because early stopping would fit to them. Raises UsageError for
    a share that is not between 0 and 1.
    """
    _check_share(share)
    chosen = np.random.default_rng(seed).permutation(len(known))[: round(share * len(known))]
    cold = np.sort(known.rows[chosen])
    train = split.train.keep(~np.isin(split.train.items, cold))
    validation = split.validation[~np.isin(split.live.items[split.validation], cold)]
    return replace(split, train=train, validation=validation, cold_rows=cold)


def hold_out_users(split: Split, share: float = 0.1, seed: int = 0) -> Split:
    """Take about a share of the users out of training, as if they were new.

    Whether a user is held out depends on the seed and their id alone. Only their events are targets then. Raises
    UsageError for a share that is not between 0 and 1.
    """
    _check_share(share)
    cold = _drawn(split.live.user_ids, share, seed)
    train = split.train.keep(~_drawn(split.train.user_ids, share, seed)[split.train.owners])
    owners = split.live.owners
    return replace(
        split,
        train=train,
        targets=split.targets[cold[owners[split.targets]]],
        validation=split.validation[~cold[owners[split.validation]]],
        cold_users=split.live.user_ids.filter(pa.array(cold)),
    )


def _drawn(users: pa.StringArray, share: float, seed: int) -> Bool[np.ndarray, " users"]:
    key = seed.to_bytes(8, "big", signed=True)
    draws = [blake2b(name.encode(), digest_size=8, key=key).digest() for name in users.to_pylist()]
    return np.array([int.from_bytes(draw, "big") < share * 2**64 for draw in draws], dtype=bool)


def _wanted(histories: Histories, rules: Cleaning) -> Bool[np.ndarray, " n"]:
    """Which events are positive."""
    return histories.weights(rules.kinds.weights) > 0


def _last_of_each(histories: Histories, places: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " users"]:
    """The last of some ascending positions for each user who has one."""
    owners = histories.owners[places]
    last = np.append(owners[1:] != owners[:-1], [True] * min(1, len(owners)))
    return places[last.astype(bool)]


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise UsageError(f"The share held out is {share}; it must lie between 0 and 1, such as 0.1.")
