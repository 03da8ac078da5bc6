"""A process that decodes something endless, to be killed meanwhile. Run by test_apart.py."""

import sys

from hostile_drawings import endless

from mmrec.catalog.limits import Limits
from mmrec.decoding.apart import _POOL, decode_apart
from mmrec.decoding.worker import Worker
from mmrec.modality import Modality

worker = Worker()
_POOL._give_back(worker)
sys.stdout.write(f"{worker._process.pid}\n")
sys.stdout.flush()
decode_apart(Modality.IMAGE, endless(), Limits(max_decoding_seconds=2))
