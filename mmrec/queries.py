"""Parts of a query -> one vector in the space of the items."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from threading import Lock

import numpy as np
from jaxtyping import Float32

from mmrec.compute import single_threaded
from mmrec.decoding.isolated import decode_isolated
from mmrec.decoding.limits import Limits
from mmrec.encoders.protocol import Encoder, limits_for
from mmrec.encoders.queries import prepare_query, query_spaces
from mmrec.errors import SpaceMismatchError, UnknownIdError, UsageError
from mmrec.fusion.fusion import Fusion
from mmrec.query import Part
from mmrec.snapshot import Snapshot
from mmrec.sources.media_access import MediaAccess
from mmrec.types import Modality, Space

MIN_RELATIVE_NORM = 0.05
"""A weighted sum shorter than this share of its parts' lengths has no meaningful direction."""

REMEMBERED_QUERIES = 1024


class QueryMaker:
    """Encodes the contents of queries, with the encoders of the snapshot that is searched."""

    def __init__(self, load_encoders: Callable[[str], Sequence[Encoder]], media: MediaAccess) -> None:
        """`load_encoders` maps `Manifest.encoders` to encoders and caches its results.

        `media` reads files of queries.
        """
        self._load = load_encoders
        self._media = media
        self._one_at_a_time = Lock()
        self._encode_text = lru_cache(maxsize=REMEMBERED_QUERIES)(
            lambda text, made_with: self._encode(Modality.TEXT, text.encode(), self._load(made_with))
        )

    def make(
        self, parts: Sequence[Part], snapshot: Snapshot, against: frozenset[Modality] | None
    ) -> Float32[np.ndarray, " dim"]:
        """Weighted mean of the parts' vectors, each scaled so that a perfect match scores 1.

        Parts that can only be compared across modalities are scaled to the store's confidence in such matches instead.

        Raises UsageError where there is no part or the parts cancel out, UnknownIdError for an unknown item, MediaError
        for an image or audio file that cannot be read, SpaceMismatchError where nothing can be compared.
        """
        if not parts:
            raise UsageError("a query needs at least one text, image, audio or item")
        weights = np.array([part.weight for part in parts])
        if not np.isfinite(weights).all() or not weights.any():
            raise UsageError(f"weights of a query must be finite and not all zero; got {weights.tolist()}")
        vectors = np.stack([self._part(part, snapshot, against) for part in parts])
        mixed = (weights[:, None] * vectors).sum(axis=0) / np.abs(weights).sum()
        lengths = np.abs(weights) @ np.linalg.norm(vectors, axis=1) / np.abs(weights).sum()
        if np.linalg.norm(mixed) < MIN_RELATIVE_NORM * lengths or lengths == 0:
            raise UsageError(
                "the parts of this query cancel out, so that no item is nearer than another; change a weight"
            )
        return mixed.astype(np.float32)

    def _part(self, part: Part, snapshot: Snapshot, against: frozenset[Modality] | None) -> Float32[np.ndarray, " dim"]:
        fusion = snapshot.generation.fusion
        if part.kind == "item":
            return _item(str(part.value), snapshot, fusion, against)
        if part.kind == "vector":
            return _vector(part, fusion, against)
        if part.kind not in set(Modality):
            raise UsageError(f"a part of a query is text, image, audio, item or vector, not {part.kind!r}")
        modality, made_with = Modality(part.kind), snapshot.generation.manifest.encoders
        encoders = self._load(made_with)
        if not any(modality in query_spaces(encoder) for encoder in encoders):
            there = ", ".join(block.name for block in fusion.blocks)
            raise UsageError(
                f"no encoder in use takes {modality}, so this part cannot be compared with the store's vectors "
                f"({there}). Query by item; or name an encoder whose space has the same name and fingerprint, with "
                "--encoders FILE.toml"
            )
        if modality is Modality.TEXT:
            vectors = self._encode_text(part.value, made_with)
        else:
            data = part.value if isinstance(part.value, bytes) else self._media.read(str(part.value))
            vectors = self._encode(modality, data, encoders)
        _check_spaces(fusion, vectors, made_with)
        return fusion.query(modality, vectors, against)

    def _encode(
        self, modality: Modality, data: bytes, encoders: Sequence[Encoder]
    ) -> dict[Space, Float32[np.ndarray, " _"]]:
        """One content in all spaces of the encoders."""
        able = [encoder for encoder in encoders if modality in query_spaces(encoder)]
        content = decode_isolated(modality, data, limits_for(encoders, Limits()))
        vectors = {}
        for encoder in able:
            sample = prepare_query(encoder, modality, content)
            with self._one_at_a_time, single_threaded():
                made = encoder.encode(modality, [sample])
            vectors.update({space: made[space.name][0] for space in query_spaces(encoder)[modality]})
        return vectors


def _check_spaces(fusion: Fusion, vectors: Mapping[Space, Float32[np.ndarray, " _"]], made_with: str) -> None:
    """Raise SpaceMismatchError if a query space has the name of an item space but another fingerprint.

    Otherwise only some blocks would be compared.
    """
    own = {block.space.name: block.space for block in fusion.blocks}
    for space in vectors:
        there = own.get(space.name, space)
        if there.fingerprint != space.fingerprint:
            raise SpaceMismatchError(
                f"the query is in the space {space.name} ({space.fingerprint[:12]}), and the items are in the space "
                f"{there.name} ({there.fingerprint[:12]}), so that the two cannot be compared. The items were encoded "
                f"with {made_with!r}: name them with --encoders, or move the store to others with mmrec reindex."
            )


def _vector(part: Part, fusion: Fusion, against: frozenset[Modality] | None) -> Float32[np.ndarray, " dim"]:
    """A given vector as a query: in the fused space, or in a space of the store by its name."""
    given = np.array(part.value, dtype=np.float32)
    if not np.isfinite(given).all() or not given.any():
        raise UsageError("a vector of a query must be finite and not all zero")
    if part.space is None:
        if len(given) != fusion.dim:
            raise SpaceMismatchError(
                f"the vector of the query has {len(given)} dimensions, and item vectors have {fusion.dim}; name its "
                f"space: {', '.join(sorted({block.space.name for block in fusion.blocks}))}"
            )
        return fusion.scale_to_unit_max_score(fusion.restricted(given[None], against)[0])
    block = next((block for block in fusion.blocks if block.space.name == part.space), None)
    if block is None or len(given) != block.space.dim:
        there = ", ".join(f"{one.space.name} ({one.space.dim} dimensions)" for one in fusion.blocks)
        raise SpaceMismatchError(
            f"the store has no space {part.space!r} of {len(given)} dimensions for the query's vector; it has {there}"
        )
    return fusion.query(block.modality, {block.space: given / np.linalg.norm(given)}, against)


def _item(
    item_id: str, snapshot: Snapshot, fusion: Fusion, against: frozenset[Modality] | None
) -> Float32[np.ndarray, " dim"]:
    found = snapshot.items.by_id([item_id])
    if item_id not in found:
        raise UnknownIdError(f"there is no item {item_id!r}; see what there is with `mmrec search` or `mmrec status`")
    vector = fusion.restricted(snapshot.vectors([found[item_id].row]), against)[0]
    if not vector.any():
        wanted = "any modality" if against is None else " or ".join(sorted(against))
        raise UsageError(f"item {item_id!r} has no vector for {wanted}; compare it by another modality")
    return fusion.scale_to_unit_max_score(vector)
