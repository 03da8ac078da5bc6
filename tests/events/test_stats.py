"""The numbers of a log, counted once more by hand."""

from collections import Counter

import numpy as np
import pytest
from events.made import events
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrec.events.event import RefusedRow
from mmrec.events.histories import KnownItems
from mmrec.events.log import open_log
from mmrec.events.stats import event_stats


@given(given_events=st.lists(events, max_size=30))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stats_are_what_can_be_counted(place, given_events):
    log = open_log(place)
    for user in "abcd":
        log.forget(user)
    log.append(given_events)
    rows = [row for batch in log.scan() for row in batch.to_pylist()]
    found = event_stats(log, KnownItems.numbered(["i0", "i1"]))
    assert found.events == len(rows)
    assert found.users == len({row["user"] for row in rows})
    assert found.items == len({row["item"] for row in rows})
    assert dict(found.by_kind) == dict(Counter(row["kind"] for row in rows))
    assert list(found.by_kind.values()) == sorted(found.by_kind.values(), reverse=True)
    unknown = [row["item"] for row in rows if row["item"] not in {"i0", "i1"}]
    assert found.unknown_items == len(set(unknown))
    if rows:
        assert (found.first, found.last) == (min(r["time"] for r in rows), max(r["time"] for r in rows))
        assert found.unknown_share == len(unknown) / len(rows)
        assert found.density == pytest.approx(len(rows) / (found.users * found.items))
        lengths = sorted(Counter(row["user"] for row in rows).values())
        assert found.history_lengths["100%"] == lengths[-1]
        assert found.history_lengths["50%"] == np.quantile(lengths, 0.5, method="inverted_cdf")
    else:
        assert (found.first, found.density, found.history_lengths) == (None, 0.0, {})
    log.close()


def test_refused_rows_are_counted_as_many_as_they_are(log):
    with log.writing() as writer:
        writer.refuse("a", [RefusedRow(0, "", "damaged", count=1000), RefusedRow(5, "time", "missing")])
    assert event_stats(log, KnownItems.numbered([])).refused == 1001
