"""Splits made for tests, from events that Hypothesis draws or that are written out."""

from datetime import timedelta

import numpy as np
from events.made import START, arrays, micro
from hypothesis import strategies as st

from mmrec.evaluation.cases import Candidates
from mmrec.events.cleaning import Cleaning
from mmrec.events.event import Event
from mmrec.events.histories import KnownItems
from mmrec.events.splits import time_split

ITEMS = [f"i{number}" for number in range(12)]
KNOWN = KnownItems.numbered(ITEMS)
CUTOFF = 100
NOW = micro(10_000)


def candidates(dim=6, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(len(ITEMS), dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shares = np.eye(3, dtype=np.float32)[np.arange(len(ITEMS)) % 3]
    return Candidates(np.arange(len(ITEMS)), vectors, shares)


def split_of(events):
    return time_split(arrays(events), KNOWN, micro(CUTOFF), Cleaning(), NOW)


events = st.builds(
    Event,
    user=st.sampled_from(list("abcdefg")),
    item=st.sampled_from(ITEMS),
    kind=st.sampled_from(["click", "like", "hide"]),
    time=st.integers(0, 200).map(lambda minutes: START + timedelta(minutes=minutes)),
)
logs = st.lists(events, min_size=1, max_size=60)
