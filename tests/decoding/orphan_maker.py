"""A process that decodes something endless, to be killed meanwhile. Run by test_apart.py."""

import sys

from hostile_drawings import endless

from mmrec.decoding.isolated import _POOL, decode_isolated
from mmrec.decoding.limits import Limits
from mmrec.decoding.worker import Worker
from mmrec.types import Modality

worker = Worker()
_POOL._give_back(worker)
sys.stdout.write(f"{worker._process.pid}\n")
sys.stdout.flush()
decode_isolated(Modality.IMAGE, endless(), Limits(max_decoding_seconds=2))
