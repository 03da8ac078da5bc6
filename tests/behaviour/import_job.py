"""Import a file, and say after each commit how many rows are durable; run by a test that kills it."""

import os
import sys
from pathlib import Path

from mmrec.behaviour import importing
from mmrec.behaviour.kinds import Kinds
from mmrec.behaviour.log import open_log
from mmrec.behaviour.sources import delimited
from mmrec.behaviour.sources.open import open_events
from mmrec.behaviour.times import TimeRule

delimited.ROWS_PER_CHUNK = 500  # many commits in a small file
importing._ROWS_PER_COMMIT = 1000

with_what = open_events(Path(sys.argv[1]))
importing.import_events(
    with_what,
    open_log(sys.argv[2]),
    Kinds(),
    TimeRule(),
    lambda tally: os.write(1, f"{tally.read} {tally.added} {tally.known} {tally.refused}\n".encode()),
)
