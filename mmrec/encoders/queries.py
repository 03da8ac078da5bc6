"""Spaces that encoders give queries, and which encoders a generation needs."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from mmrec.encoders.protocol import Encoder, Sample
from mmrec.types import Content, Modality, Space


def query_spaces(encoder: Encoder) -> Mapping[Modality, tuple[Space, ...]]:
    """Return the spaces that queries of each modality are encoded into."""
    found: Mapping[Modality, tuple[Space, ...]] | None = getattr(encoder, "query_spaces", None)
    return encoder.spaces if found is None else found


def prepare_query(encoder: Encoder, modality: Modality, content: Content) -> Sample:
    """Preprocess one content as a query. Raises MediaError if it cannot be encoded."""
    prepared: Sample = getattr(encoder, "prepare_query", encoder.prepare)(modality, content)
    return prepared


def best_encoders(sets: Iterable[Sequence[Encoder]], spaces: Iterable[Space]) -> Sequence[Encoder] | None:
    """Return the set that fills most of `spaces`, and among equals the one with fewest others; None if none fills any.

    A set with another fingerprint under one of their names is excluded.
    """
    own = {space.name: space.fingerprint for space in spaces}
    ranked = []
    for encoders in sets:
        filled = _filled(encoders)
        shared = filled.keys() & own.keys()
        if shared and all(filled[name] == own[name] for name in shared):
            ranked.append((len(shared), len(shared) - len(filled), encoders))
    return max(ranked, key=lambda one: one[:2], default=(0, 0, None))[2]


def covers(encoders: Sequence[Encoder], spaces: Iterable[Space]) -> bool:
    """Whether encoders fill all of some spaces."""
    filled = _filled(encoders)
    return all(filled.get(space.name) == space.fingerprint for space in spaces)


def _filled(encoders: Sequence[Encoder]) -> dict[str, str]:
    """The fingerprints of all spaces that items and queries are encoded into, by name."""
    each = (chain(encoder.spaces.values(), query_spaces(encoder).values()) for encoder in encoders)
    return {space.name: space.fingerprint for spaces in chain.from_iterable(each) for space in spaces}
