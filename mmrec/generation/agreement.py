"""Agreement of the modalities of a catalog with its texts, measured on a sample of its items."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.fusion.agreement import Agreement, advice, neighbour_agreement, text_retrieval_agreement
from mmrec.fusion.blocks import Block, centre
from mmrec.fusion.fusion import Fusion
from mmrec.storage.generations import Manifest
from mmrec.types import Modality
from mmrec.unit import unit

MEASURED_ITEMS = 2_000
"""Items that are compared with each other, at most: their number squared, a few times."""


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The contents of a sample of items in one block.

    Attributes:
        items: Which item of the sample each content belongs to.
        hashes: The contents' hashes.
        vectors: Their vectors.

    """

    items: Int64[np.ndarray, " n"]
    hashes: tuple[bytes, ...]
    vectors: Float32[np.ndarray, "n dim"]


def measure_agreements(fusion: Fusion, sampled: Mapping[Block, Sampled]) -> tuple[Agreement, ...]:
    """For each modality except text: neighbour agreement, and text retrieval for each comparable block.

    Modalities with too few items, or without texts, are left out. The sample may come in any order.
    """
    return tuple(found for modality in Modality for found in _of_modality(modality, fusion, sampled))


def advice_of(made: Manifest) -> list[str]:
    """Return warnings about modalities of a generation that agree little with its texts, and what to do."""
    return advice(
        [
            Agreement(subject, int(one["items"]), one["rate"], one["low"], one["high"], one["confidence"])
            for subject, one in made.agreement.items()
        ]
    )


def _of_modality(modality: Modality, fusion: Fusion, sampled: Mapping[Block, Sampled]) -> Iterator[Agreement]:
    texts = [block for block in fusion.blocks if block.modality is Modality.TEXT]
    own = [block for block in fusion.blocks if block.modality is modality]
    if modality is Modality.TEXT or not texts or not own:
        return
    chosen, groups = _items_with(sampled[texts[0]], sampled[own[0]])
    if not len(chosen):
        return
    media_vectors, text_vectors = (_joined(some, fusion, sampled, chosen) for some in (own, texts))
    found = [neighbour_agreement(modality, media_vectors, text_vectors, groups)]
    for block in own:
        key = block.space.comparison_key
        text_block = next((text for text in texts if text.space.comparison_key == key), None)
        if text_block is not None:
            index = fusion.blocks.index(block)
            queries = fusion.project(index, _centred(text_block, fusion, sampled[text_block], chosen), 1.0)
            items = fusion.project(index, _centred(block, fusion, sampled[block], chosen), 1.0)
            found.append(text_retrieval_agreement(block, queries, items, groups))
    yield from (one for one in found if one is not None)


def _items_with(texts: Sampled, others: Sampled) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Items that have both, `MEASURED_ITEMS` at most, sorted by content hash; and a number for each different text."""
    by_text, by_other = _contents(texts), _contents(others)
    both = sorted((by_text[item], by_other[item], item) for item in by_text.keys() & by_other.keys())[:MEASURED_ITEMS]
    _, groups = np.unique(np.array([text.hex() for text, _, _ in both], dtype=str), return_inverse=True)
    return np.array([item for _, _, item in both], dtype=np.int64), groups.astype(np.int64)


def _contents(sampled: Sampled) -> dict[int, bytes]:
    """All contents of each item, as one key."""
    keys: dict[int, list[bytes]] = {}
    for item, content in zip(sampled.items.tolist(), sampled.hashes, strict=True):
        keys.setdefault(item, []).append(content)
    return {item: b"".join(sorted(some)) for item, some in keys.items()}


def _joined(
    blocks: list[Block], fusion: Fusion, sampled: Mapping[Block, Sampled], chosen: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n dim"]:
    """Item vectors in some blocks side by side."""
    parts = [
        fusion.project(fusion.blocks.index(block), _centred(block, fusion, sampled[block], chosen)) for block in blocks
    ]
    return np.concatenate(parts, axis=1)


def _centred(
    block: Block, fusion: Fusion, sampled: Sampled, chosen: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n dim"]:
    """Mean of each item's centred vectors, made a unit vector; zero where it has none in this block."""
    order = np.argsort(chosen)
    places = np.searchsorted(chosen, sampled.items, sorter=order)
    places = order[np.minimum(places, len(chosen) - 1)]
    there = chosen[places] == sampled.items
    sums = np.zeros((len(chosen), block.space.dim), dtype=np.float32)
    np.add.at(sums, places[there], centre(sampled.vectors[there], fusion.means[fusion.blocks.index(block)]))
    return unit(sums)
