"""A consistent view of a store: one generation, the items since, and search hits made of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from indexers.live import LiveIndex
from indexers.vectors import contains, find_rows
from mmrec.errors import StoreError
from mmrec.fusion.blocks import Block
from mmrec.generation.fuse import fuse_batch, open_tables
from mmrec.generation.generation import Generation, open_generation
from mmrec.query import Hit
from mmrec.storage.generations import current_number
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import Quarantined
from mmrec.storage.stored_item import StoredItem
from mmrec.storage.vectors import KeyIndex, key_array
from mmrec.types import Modality, modality_bits


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One generation and one version of the items. Every query is answered from one snapshot alone.

    `index` searches the generation and the rows added since, without removed items. `tail_rows` are the rows added or
    edited since the generation was built, ascending, with their vectors and modalities (as bits).
    """

    generation: Generation
    items: ItemTable
    index: LiveIndex
    tail_rows: Int64[np.ndarray, " t"]
    tail_vectors: Float32[np.ndarray, "t dim"]
    tail_modalities: np.ndarray

    def is_current(self, layout: Layout) -> bool:
        """Whether nothing was published or committed since."""
        return (
            current_number(layout) == self.generation.manifest.number
            and self.items.version == self.items.latest_version
        )

    def vectors(self, rows: Sequence[int]) -> Float32[np.ndarray, "n dim"]:
        """Item vectors by row number; an unknown row is a zero vector."""
        wanted = np.asarray(rows, dtype=np.int64)
        found = np.zeros((len(wanted), self.generation.fusion.dim), dtype=np.float32)
        places = self.generation.find(wanted)
        found[places >= 0] = self.generation.vectors_at(places[places >= 0])
        places = find_rows(self.tail_rows, wanted)
        found[places >= 0] = self.tail_vectors[places[places >= 0]]
        return found

    def rows_with(self, modalities: frozenset[Modality]) -> Int64[np.ndarray, " n"]:
        """Rows of the items that have any of the modalities, as far as the generation's fusion covers them."""
        bits = modality_bits(modalities)
        built = self.generation.rows[(self.generation.modalities & bits) > 0]
        return np.union1d(built[~contains(self.tail_rows, built)], self.tail_rows[(self.tail_modalities & bits) > 0])

    def rows_allowed(self, where: str | None, against: frozenset[Modality] | None) -> Int64[np.ndarray, " n"] | None:
        """Rows a query may answer with; None for all. Raises UsageError where the filter cannot be used."""
        matching = self.items.rows(where) if where is not None else None
        if against is None:
            return matching
        having = self.rows_with(against)
        return having if matching is None else np.intersect1d(having, matching, assume_unique=True)


def require_generation(layout: Layout) -> int:
    """Return the number of the current generation. Raises StoreError before the first one."""
    number = current_number(layout)
    if number is None:
        raise StoreError(f"{layout.root} has no generation yet; finish it with `mmrec index SOURCE {layout.root}`")
    return number


def open_snapshot(layout: Layout, before: Snapshot | None = None) -> Snapshot:
    """Open the current generation, or reuse that of the previous snapshot, and fuse what changed since it was built.

    Raises StoreError where there is none.
    """
    number = require_generation(layout)
    known = before is not None and before.generation.manifest.number == number
    generation = before.generation if before is not None and known else open_generation(layout, number)
    return snapshot_of(layout, generation, ItemTable(layout.items))


def snapshot_of(layout: Layout, generation: Generation, items: ItemTable) -> Snapshot:
    """Combine any generation and the items, and fuse what changed since it was built.

    Items without a vector in the generation's spaces, because they came after the store moved to others, are not found.
    """
    fresh = items.changed_since(generation.manifest.items_version)
    gone = np.setdiff1d(generation.rows, items.rows(), assume_unique=True)
    stored = items.by_row(fresh.tolist())
    tables = open_tables(layout, generation.fusion.blocks) if len(fresh) else {}
    fused = fuse_batch(generation.fusion, tables, [stored[row].fields for row in fresh.tolist()])
    has = fused.modalities
    live = LiveIndex(generation.fusion.dim, "ip", [generation.index])
    # An item without any vector cannot be found by any query.
    live.remove(np.concatenate([gone, generation.rows[generation.modalities == 0], fresh[has == 0]]))
    if has.any():
        live.add(fresh[has > 0], fused.vectors[has > 0])
    return Snapshot(generation, items, live, fresh, fused.vectors, has)


def count_contents(items: ItemTable, blocks: Sequence[Block], quarantined: Sequence[Quarantined]) -> dict[str, int]:
    """Number of contents the items have, by block, without those in quarantine."""
    counts = {}
    for modality in {block.modality for block in blocks}:
        bad = KeyIndex(key_array([one.hash for one in quarantined if one.hash and one.modality == modality]))
        counts[modality] = sum(int((bad.find(keys) < 0).sum()) for _, keys in items.content_keys(modality))
    return {block.name: counts[block.modality] for block in blocks}


_TITLES: Final = ("title", "name", "headline", "product_name", "label", "caption")
_LONGEST: Final = 60


def hit_of(item: StoredItem, score: float, shares: Mapping[str, float]) -> Hit:
    """Convert an item to a hit: its id, text, metadata, and the addresses of its media."""
    media: dict[str, tuple[str, ...]] = {}
    for one in item.fields:
        if one.uri is not None:
            media[one.modality] = (*media.get(one.modality, ()), one.uri)
    return Hit(item.id, score, shares, item.text, media, item.metadata)


def title_of(item: StoredItem) -> str:
    """Title of an item: from its metadata, or else the first line of its text; empty without either.

    Long ones are shortened.
    """
    named = {name.lower(): value for name, value in item.metadata.items() if isinstance(value, str)}
    lines = [*(named.get(name, "") for name in _TITLES), *(item.text or "").splitlines()]
    title = next((line.strip() for line in lines if line.strip()), "")
    return title if len(title) <= _LONGEST else title[: _LONGEST - 1].rstrip() + "…"


def found_hits(
    snapshot: Snapshot,
    query: Float32[np.ndarray, " dim"],
    rows: Sequence[int],
    excluded: set[str],
    query_modality: Modality | None = None,
) -> list[Hit]:
    """Return the items of rows, in the order given, with the share of each modality in their scores.

    Rows that no longer exist, and items of `excluded` ids, are skipped. `query_modality` is that of a query by one
    content; see `Fusion.fade_cross_modal`.
    """
    fusion = snapshot.generation.fusion
    found = [row for row in rows if row >= 0]
    stored = snapshot.items.by_row(found)
    known = snapshot.vectors(found)
    faded = known if query_modality is None else fusion.fade_cross_modal(query_modality, query, known)
    vectors = dict(zip(found, faded, strict=True))
    hits = []
    for row in found:
        item = stored.get(row)
        if item is not None and item.id not in excluded:
            hits.append(hit_of(item, float(query @ vectors[row]), fusion.contributions(query, vectors[row])))
    return hits


_RERANKED: Final = 100
"""Least number of extra candidates that are ranked again."""


def search_by_text(
    snapshot: Snapshot, queries: Float32[np.ndarray, "q dim"], k: int, allowed: Int64[np.ndarray, " a"] | None
) -> list[list[int]]:
    """Return for each text the rows of its k best items, best first, scored as by `Fusion.fade_cross_modal`.

    The index knows only plain scores, so more candidates than wanted are fetched and ranked again.
    """
    fusion, best = snapshot.generation.fusion, []
    found = snapshot.index.search(queries, k + max(k, _RERANKED), allowed=allowed).rows
    for query, near in zip(queries, found, strict=True):
        rows = near[near >= 0]
        vectors = fusion.fade_cross_modal(Modality.TEXT, query, snapshot.vectors(rows.tolist()))
        best.append(rows[np.argsort(-(vectors @ query), kind="stable")[:k]].tolist())
    return best
