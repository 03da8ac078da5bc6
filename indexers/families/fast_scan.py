"""``PQ96x4fs``: all vectors as four-bit codes, compared in registers. Too coarse to answer alone: see `refine`."""

from indexers.devices import faiss
from indexers.faiss_recipe import Family

FAMILY = Family(
    name="PQ fast scan",
    examples={},
    takes=lambda index: isinstance(index, faiss.IndexPQFastScan),
    # FAISS refuses any parameters here, and so any selector.
    native=lambda index, search: None,
    bytes_for=lambda index, count: count * int(index.code_size) + 4 * int(index.pq.ksub * index.d),
    selects=lambda _: False,
    least=lambda index: int(index.pq.ksub),
)
