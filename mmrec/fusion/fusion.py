"""Fusion: vectors of several spaces and modalities to one item vector, and queries to match; its file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmrec.errors import SpaceMismatchError, StoreError
from mmrec.fusion.agreement import Agreement, confidences
from mmrec.fusion.blocks import Block, Rotation, allot, centre, fit_rotation, settled, shrunken_mean
from mmrec.types import Modality, Space
from mmrec.unit import unit

ACROSS = (0.5, 0.25)
"""What a match between two kinds of content counts beside a match of like with like.

First for a vector of the space itself, as a text that looks for images; then for a query that is itself a stand-in,
as an image that looks for texts by its labels. Measured on the stamps, with the nearest neighbour of the same folder:
text queries .819 without, .817 at .5, .785 at 1; image queries .812 without, .811 at .25, .781 at .5, .688 at 1.
"""

ACROSS_FADES = 0.6
"""Cosine with an item's own text at which a text query's matches with its other contents have faded.

Such a match says what the text says already, and with more noise. Measured on the stamps with texts and pictures, half
of a text's words, item found first, beside queries by folder, share of the folder in the best 20: text alone .711 and
.341; with pictures .660 and .361 where matches count in full, .697 and .359 at .5, .701 and .360 at .6, .701 and .361
at .8, .697 and .360 at 1. A smaller `ACROSS` for all items: .702 and .349 at .1; items without a text are then lost.
"""

FADED = 0.1
"""Share of its weight that such a match keeps: it tells items of like texts apart.

Measured likewise: .701 at 0, .702 at .1 and .2, .697 at .3; with sounds too .691, .694, .689, .684.
"""

STAND_IN_ROOM = 2.0
"""How much more a stand-in block's energy counts in the allocation of dimensions: it is searched by texts."""


LEAST_ROOM = 0.05
"""Least that a block's energy counts there, however little its modality agrees with the texts.

Films with unrelated images (1,682, 512 dimensions), titles that find their film first and images whose nearest is
of the same folder: .956 without images; .938 and .789 with the whole room, .954 and .789 at .14, .956 and .784 at
.05, .956 and .777 at .02.
"""


@dataclass(frozen=True, eq=False)
class Fusion:
    """A fitted map from per-space vectors to item vectors. Immutable; part of a generation.

    Attributes:
        blocks: The parts of an item vector, in order.
        weights: One weight a block, as requested; they sum to one.
        means: What each block's vectors are centred by.
        rotations: Each block's kept directions.
        fitted_on: Number of contents each block was fitted on.
        agreements: What was measured of how far modalities agree with texts.

    """

    blocks: tuple[Block, ...]
    weights: Float32[np.ndarray, " blocks"]
    means: tuple[Float32[np.ndarray, " _"], ...]
    rotations: tuple[Rotation, ...]
    fitted_on: tuple[int, ...]
    agreements: tuple[Agreement, ...] = ()

    @cached_property
    def strengths(self) -> Float32[np.ndarray, " blocks"]:
        """Effective weights: the requested ones times the confidence in their modality; they sum to one."""
        if not self.agreements:
            return self.weights
        scaled = self.weights * confidences(self.blocks, self.agreements)[0]
        return scaled / scaled.sum()

    @property
    def dim(self) -> int:
        """Length of an item vector."""
        return sum(rotation.directions.shape[1] for rotation in self.rotations)

    @property
    def kept_energy(self) -> dict[str, float]:
        """Share of each block's squared length that the kept directions hold; the rest is what projection loses."""
        return {b.name: float(r.energy.sum()) for b, r in zip(self.blocks, self.rotations, strict=True)}

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each block lies in an item vector."""
        ends = np.cumsum([rotation.directions.shape[1] for rotation in self.rotations]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True))

    def centred(self, block: int, vectors: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, "n dim"]:
        """Centre contents of one block, ready to be averaged over an item that has several."""
        return centre(vectors, self.means[block])

    def place(
        self, block: int, centred: Float32[np.ndarray, "n dim"], strength: float | None = None
    ) -> Float32[np.ndarray, "n kept"]:
        """Rotate centred vectors into a block and scale them, by default to the root of its weight."""
        scale = np.sqrt(self.strengths[block]) if strength is None else np.float32(strength)
        return unit(centred @ self.rotations[block].directions) * scale

    def fuse(
        self, centred: Sequence[Float32[np.ndarray, "_ _"]], present: Bool[np.ndarray, "n blocks"]
    ) -> Float32[np.ndarray, "n dim"]:
        """Item vectors from each block's centred vectors; where `present` is false the row of that block is ignored."""
        fused = np.zeros((len(present), self.dim), dtype=np.float32)
        for block, part in enumerate(self.slices):
            fused[:, part] = np.where(present[:, block, None], self.place(block, centred[block]), 0)
        return fused

    def query(
        self,
        modality: Modality,
        vectors: Mapping[Space, Float32[np.ndarray, " _"]],
        against: frozenset[Modality] | None,
    ) -> Float32[np.ndarray, "dim"]:
        """One content as a query: fills every block it can be compared with, among the modalities `against`.

        A block is met by the vector of its own space and modality, with the block's weight. Else it is met by one of a
        space that meets there (a text vector in the block of bridged images), centred as its own kind is, with the
        weight of the block's modality times `ACROSS` times the confidence in such matches. A whole match scores 1, or
        the confidence where nothing but such matches is met. Raises SpaceMismatchError where no block can be met.
        """
        whole = np.zeros(self.dim, dtype=np.float32)
        best = 0.0
        for index, (block, part) in enumerate(zip(self.blocks, self.slices, strict=True)):
            if against is not None and block.modality not in against:
                continue
            source = _meeting(block, modality, vectors)
            if source is not None:
                trust = 1.0 if source == block.space else self._trust_across(index, source, modality)
                best = max(best, trust)
                centred = centre(vectors[source][None], self._mean_of(source, modality, index))
                strength = None if source == block.space else self._strength_across(index, source, trust)
                whole[part] = self.place(index, centred, strength)[0]
        if not best:
            raise SpaceMismatchError(_no_meeting(self.blocks, modality, vectors, against))
        return self.scale_to_unit_max_score(whole) * np.float32(best)

    def restricted(
        self, item_vectors: Float32[np.ndarray, "n dim"], against: frozenset[Modality] | None
    ) -> Float32[np.ndarray, "n dim"]:
        """Item vectors as queries against some modalities: the other blocks are zeroed."""
        if against is None:
            return item_vectors
        whole = item_vectors.copy()
        for block, part in zip(self.blocks, self.slices, strict=True):
            if block.modality not in against:
                whole[:, part] = 0
        return whole

    def fade_across(
        self, modality: Modality, query: Float32[np.ndarray, "dim"], item_vectors: Float32[np.ndarray, "n dim"]
    ) -> Float32[np.ndarray, "n dim"]:
        """Item vectors for scoring a query by one content: the better its own modality matches, the less others count.

        With c the cosine of the query in the blocks of its own modality, the other blocks are scaled by
        1 - c / `ACROSS_FADES`, from 1 for an item without that modality down to `FADED`. All are then scaled so that
        the greatest score there can be stays what it was.
        """
        own = np.zeros(self.dim, dtype=bool)
        whole = {True: 0.0, False: 0.0}
        for block, part, weight in zip(self.blocks, self.slices, self.strengths, strict=True):
            own[part] = is_own = block.modality == modality
            whole[is_own] += float(np.linalg.norm(query[part])) * float(np.sqrt(weight))
        if not whole[True] or not whole[False]:
            return item_vectors
        cosines = item_vectors[:, own] @ query[own] / np.float32(whole[True])
        factors = np.clip(1 - cosines / np.float32(ACROSS_FADES), np.float32(FADED), 1)[:, None]
        greatest = max(whole[True] + FADED * whole[False], whole[False])
        scale = np.float32(sum(whole.values()) / greatest)
        return np.where(own, item_vectors, item_vectors * factors) * scale

    def scale_to_unit_max_score(self, query: Float32[np.ndarray, "dim"]) -> Float32[np.ndarray, "dim"]:
        """Scale a query so that an item which matches it wholly scores 1, whatever blocks it fills."""
        lengths = [float(np.linalg.norm(query[part])) for part in self.slices]
        best = sum(length * float(np.sqrt(weight)) for length, weight in zip(lengths, self.strengths, strict=True))
        return query / np.float32(best) if best > 0 else query

    def shares(self, query: Float32[np.ndarray, "dim"], item: Float32[np.ndarray, "dim"]) -> dict[str, float]:
        """How much each modality of an item gave to its score."""
        given: dict[str, float] = {}
        for block, part in zip(self.blocks, self.slices, strict=True):
            if query[part].any() and item[part].any():
                given[block.modality] = given.get(block.modality, 0.0) + float(query[part] @ item[part])
        return given

    def _strength_across(self, index: int, source: Space, trust: float) -> float:
        """Length of a query in a block of another kind; the item's half is the root of the block's own weight."""
        modality = self.blocks[index].modality
        asked = sum(float(w) for w, block in zip(self.weights, self.blocks, strict=True) if block.modality == modality)
        # What the weights that act were divided by to sum to one.
        scale = float((self.weights * confidences(self.blocks, self.agreements)[0]).sum())
        return ACROSS[source.approximates is not None] * trust * asked / scale / float(np.sqrt(self.strengths[index]))

    def _trust_across(self, index: int, source: Space, modality: Modality) -> float:
        """Confidence in a match between texts and the block of the query's own kind, or the block that it enters."""
        across = confidences(self.blocks, self.agreements)[1]
        own = [
            float(trust)
            for trust, block in zip(across, self.blocks, strict=True)
            if block.space == source and block.modality == modality
        ]
        return min([float(across[index]), *own])

    def _mean_of(self, source: Space, modality: Modality, block: int) -> Float32[np.ndarray, " _"]:
        """The mean of the query's own kind where items of that kind were seen, else of the block it enters."""
        for index, other in enumerate(self.blocks):
            if other.space == source and other.modality == modality and self.fitted_on[index]:
                return self.means[index]
        return self.means[block]


def fit(
    blocks: Sequence[Block],
    weights: Float32[np.ndarray, " blocks"],
    samples: Sequence[Float32[np.ndarray, "_ _"]],
    dim: int,
    measure: Callable[[Fusion], tuple[Agreement, ...]] | None = None,
) -> Fusion:
    """Fit means and rotations on unit vectors sampled from the catalog, one array a block; at most `dim` dimensions.

    Sums run in the order given, so give the samples in one that depends on nothing but what they are. `measure` says
    how far modalities agree with the texts; where one agrees little, it leaves dimensions to the others.
    """
    means = tuple(shrunken_mean(sample) for sample in samples)
    rotations = [fit_rotation(centre(sample, mean), dim) for sample, mean in zip(samples, means, strict=True)]
    counts = tuple(len(sample) for sample in samples)

    def with_room(trust: Float32[np.ndarray, "blocks"]) -> Fusion:
        room = np.array([STAND_IN_ROOM if block.space.approximates else 1.0 for block in blocks], dtype=np.float32)
        kept = allot([rotation.energy for rotation in rotations], room * np.maximum(trust, LEAST_ROOM), dim)
        cut = tuple(settled(rotation.truncated(count)) for rotation, count in zip(rotations, kept, strict=True))
        return Fusion(tuple(blocks), weights, means, cut, counts)

    fusion = with_room(np.ones(len(blocks), dtype=np.float32))
    agreements = measure(fusion) if measure is not None else ()
    own, across = confidences(blocks, agreements)
    trust = np.where([block.space.approximates is not None for block in blocks], across, own).astype(np.float32)
    return replace(fusion if (trust == 1).all() else with_room(trust), agreements=agreements)


def _meeting(block: Block, modality: Modality, vectors: Mapping[Space, np.ndarray]) -> Space | None:
    if block.modality == modality and block.space in vectors:
        return block.space
    return next((space for space in vectors if space.comparison_key == block.space.comparison_key), None)


def _no_meeting(
    blocks: Sequence[Block],
    modality: Modality,
    vectors: Mapping[Space, np.ndarray],
    against: frozenset[Modality] | None,
) -> str:
    there = ", ".join(block.name for block in blocks if against is None or block.modality in against) or "no block"
    ours = ", ".join(space.name for space in vectors)
    return (
        f"a query by {modality} (spaces: {ours}) cannot be compared with these items (blocks: {there}). "
        "Query with a modality the items have, or index them with an encoder whose space takes both."
    )


def dump_fusion(fusion: Fusion) -> bytes:
    """Serialise a fusion."""
    tensors = {"weights": fusion.weights}
    for block, mean, rotation in zip(fusion.blocks, fusion.means, fusion.rotations, strict=True):
        tensors[f"{block.name}/mean"] = mean
        tensors[f"{block.name}/directions"] = np.ascontiguousarray(rotation.directions)
        tensors[f"{block.name}/energy"] = np.ascontiguousarray(rotation.energy)
    described = [
        {"space": asdict(block.space), "modality": str(block.modality), "fitted_on": count}
        for block, count in zip(fusion.blocks, fusion.fitted_on, strict=True)
    ]
    about = {"blocks": json.dumps(described)}
    if fusion.agreements:
        about["agreements"] = json.dumps([asdict(one) for one in fusion.agreements])
    return save(tensors, metadata=about)


def load_fusion(path: Path) -> Fusion:
    """Read what `dump_fusion` wrote. Raises StoreError where the file is missing or malformed."""
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            described = json.loads(about["blocks"])
            blocks = tuple(Block(Space(**entry["space"]), Modality(entry["modality"])) for entry in described)
            return Fusion(
                blocks=blocks,
                weights=file.get_tensor("weights"),
                means=tuple(file.get_tensor(f"{block.name}/mean") for block in blocks),
                rotations=tuple(
                    Rotation(file.get_tensor(f"{block.name}/directions"), file.get_tensor(f"{block.name}/energy"))
                    for block in blocks
                ),
                fitted_on=tuple(int(entry["fitted_on"]) for entry in described),
                agreements=tuple(Agreement(**entry) for entry in json.loads(about.get("agreements", "[]"))),
            )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        msg = f"{path} is not a readable fusion file ({error}); roll back with `mmrec rollback` or index again"
        raise StoreError(msg) from error
