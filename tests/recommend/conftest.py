"""A store of two thousand items in forty far clusters, through the real pipeline; only the encoder is made up."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

import mmrec
from mmrec.encoders.protocol import Sample
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space

CLUSTERS, EACH, DIM = 40, 50, 48
SPACE = Space("clusters", DIM, "clusters-40-of-50-seed-0")
CENTRES = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, DIM)))[0][:CLUSTERS]


class Clustered:
    """Vectors around the centre that the text names: their geometry is known, and that is what is tested."""

    spaces = {Modality.TEXT: (SPACE,)}  # noqa: RUF012
    batch_cost = 64
    module = None

    def prepare(self, _, content):
        return Sample(np.array([content]), 1)

    def encode(self, _, samples):
        vectors = np.stack([vector_of(str(one.tensor[0])) for one in samples])
        return {SPACE.name: vectors}


def vector_of(text: str) -> np.ndarray:
    """Return the vector of ``cluster member``: the centre, and as much noise."""
    cluster, member = map(int, text.split())
    noise = np.random.default_rng([cluster, member]).normal(size=DIM)
    vector = CENTRES[cluster] + noise / np.linalg.norm(noise)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass(frozen=True)
class Shop:
    engine: mmrec.Store

    def members(self, cluster: int) -> list[str]:
        return [f"{cluster}-{member}" for member in range(EACH)]

    def clusters_of(self, answer: mmrec.Recommendations) -> list[int]:
        return [int(hit.id.split("-")[0]) for hit in answer.hits]


@pytest.fixture(scope="session")
def far(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Return the store, indexed once; nothing is recorded in it."""
    root = tmp_path_factory.mktemp("far")
    pairs = [(cluster, member) for cluster in range(CLUSTERS) for member in range(EACH)]
    items = [
        Item(f"{c}-{m}", (Field(Modality.TEXT, "text", text=f"{c} {m}"),), {"cluster": c}, row)
        for row, (c, m) in enumerate(pairs, 1)
    ]
    mmrec.index_items(items, pa.schema([("cluster", pa.int64())]), Layout(root), [Clustered()], mmrec.Indexing())
    return Shop(mmrec.open(root, encoders=[Clustered()]))
