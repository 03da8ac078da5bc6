"""Import a file, and say after each commit how many rows are durable; run by a test that kills it."""

import os
import sys
from pathlib import Path

from mmrec.events import files, import_export
from mmrec.events.files import open_events
from mmrec.events.kinds import Kinds
from mmrec.events.log import open_log
from mmrec.events.times import TimeRule

files._ROWS_AT_ONCE = 500  # many commits in a small file
import_export._ROWS_PER_COMMIT = 1000

with_what = open_events(Path(sys.argv[1]))
import_export.import_events(
    with_what,
    open_log(sys.argv[2]),
    Kinds(),
    TimeRule(),
    lambda tally: os.write(1, f"{tally.read} {tally.added} {tally.known} {tally.refused}\n".encode()),
)
