"""``Flat``: vectors as they are, each compared with each query. Exact, nothing to tune."""

from indexers.devices import Native, faiss
from indexers.faiss_recipe import Family, Search


def _native(index: Native, search: Search) -> Native:
    del index
    return faiss.SearchParameters(sel=None if search.among is None else search.among.selector)


FAMILY = Family(
    name="Flat",
    examples={"Flat": {}},
    takes=lambda index: isinstance(index, faiss.IndexFlat),
    native=_native,
    bytes_for=lambda index, count: count * 4 * int(index.d),
    gpu_part=lambda index: index,
    exact_scale=float("inf"),
)
