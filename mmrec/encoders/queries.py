"""What an encoder may have beside the protocol, where a query is not encoded as an item's content is.

Two optional members, each of use alone:

- ``prepare_query(modality, content) -> Sample``: `Encoder.prepare` for a query. Many text models put another prompt
  before a question than before what answers it.
- ``query_spaces``: `Encoder.spaces` for queries, where a modality is encoded for queries alone: the texts that look for
  pictures, of a model that reads the items' pictures and leaves their texts to another.
"""

from collections.abc import Mapping

from mmrec.encoders.protocol import Encoder, Sample
from mmrec.items import Content
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["prepare_query", "query_spaces"]


def query_spaces(encoder: Encoder) -> Mapping[Modality, tuple[Space, ...]]:
    """Return the spaces that queries of each modality are encoded into."""
    found: Mapping[Modality, tuple[Space, ...]] | None = getattr(encoder, "query_spaces", None)
    return encoder.spaces if found is None else found


def prepare_query(encoder: Encoder, modality: Modality, content: Content) -> Sample:
    """Preprocess one content as a query. Raises MediaError where it cannot be encoded."""
    prepared: Sample = getattr(encoder, "prepare_query", encoder.prepare)(modality, content)
    return prepared
