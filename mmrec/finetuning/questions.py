"""What is asked of held-out items: each side of an item for the other, or an item for what belongs with it.

Where every right answer is held out, they are looked for among held-out items alone. What was trained on moves, to its
place or, taught by chance, to anywhere; among all items that alone would bring the others nearer to whatever is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors
from mmrec.finetuning.pooling import item_vectors
from mmrec.finetuning.retrieval import Asked, Found, ask
from mmrec.fusion.centring import centre, shrunken_mean
from mmrec.modality import Modality

__all__ = ["Questions", "Spaces", "across", "centred", "of_items"]

Spaces = Sequence[ContentVectors]
"""The spaces that are asked in, their similarities added: of each, vectors of the modalities that can be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Questions of one or several kinds, on one corpus.

    Attributes:
        corpus: Its contents are what vectors belong to.
        sides: The kinds, and which modality asks for which; none where whole items ask for whole items.

    """

    corpus: Corpus
    sides: Sequence[tuple[Asked, tuple[Modality, Modality] | None]]

    def __len__(self) -> int:
        """Number of questions."""
        return sum(len(asked) for asked, _ in self.sides)

    def ask(self, spaces: Spaces) -> dict[str, Found]:
        """Answer all, by kind. Where no space has both sides all answers are tied, which is chance."""
        return {asked.name: ask(asked, self._blocks(asked, pair, spaces)) for asked, pair in self.sides}

    def _blocks(
        self, asked: Asked, pair: tuple[Modality, Modality] | None, spaces: Spaces
    ) -> list[tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, "_ _"]]]:
        if pair is None:
            placed = [item_vectors(self.corpus, space)[0] for space in spaces]
            return [(vectors, vectors[asked.gallery]) for vectors in placed]
        asks, gives = pair
        met = [space for space in spaces if asks in space and gives in space]
        own = self.corpus.contents[gives]
        rows = own.places[np.isin(own.owners, asked.gallery)]
        return [(space[asks], space[gives][rows]) for space in met]


def centred(vectors: ContentVectors) -> ContentVectors:
    """Take away what all contents of a modality have in common, as a store does before it compares."""
    return {modality: centre(some, shrunken_mean(some)) for modality, some in vectors.items()}


def across(
    corpus: Corpus,
    pairs: Sequence[tuple[Modality, Modality]],
    items: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " items"],
    among: Int64[np.ndarray, " m"],
) -> Questions:
    """Ask with each content of one side of some items for the item, both ways.

    Args:
        corpus: The items.
        pairs: The two sides.
        items: Those that are asked for.
        groups: What each item of the corpus is drawn with.
        among: Those that are ranked, as far as they have the side that is asked for.

    """
    sides = []
    for one, other in pairs:
        for asks, gives in ((one, other), (other, one)):
            both = items[corpus.have(asks, gives)[items]]
            asking = corpus.contents.get(asks)
            if asking is None or not len(both):
                continue
            owners = np.repeat(both, asking.counts[both])
            queries = np.concatenate([asking.of(item) for item in both.tolist()])
            answers = tuple(np.array([owner]) for owner in owners.tolist())
            nobody = np.full(len(owners), -1)
            gallery = corpus.contents[gives].owners
            gallery = gallery[np.isin(gallery, among)]
            asked = Asked(f"{asks} -> {gives}", queries, answers, gallery, nobody, groups[owners])
            sides.append((asked, (asks, gives)))
    return Questions(corpus, sides)


def of_items(
    corpus: Corpus,
    asked: Mapping[str, Sequence[tuple[int, Sequence[int]]]],
    units: Mapping[str, Sequence[int]],
    among: Mapping[str, Int64[np.ndarray, " _"]] | None = None,
) -> Questions:
    """Ask with whole items for whole items.

    Args:
        corpus: The items.
        asked: By kind, the item that asks and those that are right, each of them another item.
        units: By kind, what each question is drawn with.
        among: By kind, the items that are ranked, ascending; all for a kind that is not named.

    """
    sides = []
    everyone = np.arange(len(corpus))
    for name, pairs in asked.items():
        queries = np.array([item for item, _ in pairs], dtype=np.int64)
        answers = tuple(np.array(right, dtype=np.int64) for _, right in pairs)
        gallery = (among or {}).get(name, everyone)
        sides.append((Asked(name, queries, answers, gallery, queries, np.array(units[name], dtype=np.int64)), None))
    return Questions(corpus, sides)
