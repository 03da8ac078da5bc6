"""Vectors that encoders can compute from stored ones, as heads on frozen networks can, without reading a content."""

from collections.abc import Collection, Sequence
from contextlib import closing

import numpy as np
from jaxtyping import UInt64

from mmrec.embedding.encoding import VectorWriter
from mmrec.encoders.protocol import Encoder
from mmrec.encoders.tuned_config import Derivation, derivations_of
from mmrec.storage.layout import Layout
from mmrec.storage.vectors import VectorTable
from mmrec.types import Modality

_ROWS = 8192


def write_derived(layout: Layout, encoders: Sequence[Encoder], modalities: Collection[Modality]) -> int:
    """Write what encoders can compute from stored vectors and the store lacks. Returns how many vectors that were.

    A store that moves to encoders of which only heads were trained needs no more than this. Vectors are stored in
    float16, so they differ from those of a network's own output by rounding alone. Raises StoreError where the store
    cannot be written.
    """
    wanted = [one for encoder in encoders for one in derivations_of(encoder) if one.modality in modalities]
    return sum(_write(layout, one) for one in wanted)


def _write(layout: Layout, derivation: Derivation) -> int:
    space = derivation.space
    inputs = [VectorTable(layout.vectors(one), one) for one in derivation.inputs.values()]
    there = VectorTable(layout.vectors(space), space)
    keys = inputs[0].keys.keys
    able = np.logical_and.reduce([table.has_keys(keys) for table in inputs])
    keys = np.unique(keys[able & ~there.has_keys(keys)], axis=0)
    with closing(VectorWriter(layout, {space: there})) as writer:
        for start in range(0, len(keys), _ROWS):
            _write_some(derivation, inputs, keys[start : start + _ROWS], writer)
    return len(keys)


def _write_some(
    derivation: Derivation, inputs: Sequence[VectorTable], keys: UInt64[np.ndarray, "n 2"], writer: VectorWriter
) -> None:
    hashes = [key.tobytes() for key in keys]
    rows = {name: table.fetch(hashes)[1] for name, table in zip(derivation.inputs, inputs, strict=True)}
    made = derivation.compute(rows)
    good = np.isfinite(made).all(axis=1)
    writer.write(derivation.space, [hashes[i] for i in np.flatnonzero(good).tolist()], made[good])
