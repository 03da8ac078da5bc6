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
from mmrec.fusion.blocks import Block, Rotation, aligned, allocate_dimensions, centre, fit_rotation, shrunken_mean
from mmrec.types import Modality, Space
from mmrec.unit import unit

CROSS_MODAL_WEIGHTS = (0.5, 0.25)
"""Weight of a match between two modalities, beside that of a match within one.

First for a query vector of the space itself, as a text that looks for images; then for one of an approximating space,
as an image that looks for texts by its labels. Measured on the stamps, with the nearest neighbour of the same folder:
text queries .819 without, .817 at .5, .785 at 1; image queries .812 without, .811 at .25, .781 at .5, .688 at 1.
"""

CROSS_MODAL_FADE_COSINE = 0.6
"""Cosine with an item's own text from which on a text query's matches with its other contents have their least weight.

Such a match says what the text says already, and with more noise. Measured on the stamps with texts and images, half
of a text's words, item found first, beside queries by folder, share of the folder in the best 20: text alone .711 and
.341; with images .660 and .361 at full weight, .697 and .359 at .5, .701 and .360 at .6, .701 and .361 at .8, .697 and
.360 at 1. Smaller `CROSS_MODAL_WEIGHTS` for all items: .702 and .349 at .1; items without a text are then lost.
"""

CROSS_MODAL_FLOOR = 0.1
"""Least share of its weight that such a match keeps: it tells items of like texts apart.

Measured likewise: .701 at 0, .702 at .1 and .2, .697 at .3; with audio too .691, .694, .689, .684.
"""

APPROXIMATING_ENERGY_FACTOR = 2.0
"""Factor on the energy of an approximating block in the allocation of dimensions: texts search it."""

LEAST_ENERGY_FACTOR = 0.05
"""Least factor on a block's energy there, however little its modality agrees with the texts.

Films with unrelated images (1,682, 512 dimensions), titles that find their film first and images whose nearest is
of the same folder: .956 without images; .938 and .789 at 1, .954 and .789 at .14, .956 and .784 at
.05, .956 and .777 at .02.
"""


@dataclass(frozen=True, eq=False)
class Fusion:
    """A fitted map from per-space vectors to item vectors. Immutable; part of a generation.

    All lists are in the order of the blocks: requested weights, which sum to one; the means that centre the vectors;
    kept directions; and the number of contents each block was fitted on. `agreements` are those measured with the
    texts.
    """

    blocks: tuple[Block, ...]
    weights: Float32[np.ndarray, " blocks"]
    means: tuple[Float32[np.ndarray, " _"], ...]
    rotations: tuple[Rotation, ...]
    fitted_on: tuple[int, ...]
    agreements: tuple[Agreement, ...] = ()

    @cached_property
    def effective_weights(self) -> Float32[np.ndarray, " blocks"]:
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

    def project(
        self, block: int, centred: Float32[np.ndarray, "n dim"], scale: float | None = None
    ) -> Float32[np.ndarray, "n kept"]:
        """Rotate centred vectors into a block and scale them, by default to the root of its weight."""
        factor = np.sqrt(self.effective_weights[block]) if scale is None else np.float32(scale)
        return unit(centred @ self.rotations[block].directions) * factor

    def fuse(
        self, centred: Sequence[Float32[np.ndarray, "_ _"]], present: Bool[np.ndarray, "n blocks"]
    ) -> Float32[np.ndarray, "n dim"]:
        """Item vectors from each block's centred vectors; where `present` is false the row of that block is ignored."""
        fused = np.zeros((len(present), self.dim), dtype=np.float32)
        for block, part in enumerate(self.slices):
            fused[:, part] = np.where(present[:, block, None], self.project(block, centred[block]), 0)
        return fused

    def query(
        self,
        modality: Modality,
        vectors: Mapping[Space, Float32[np.ndarray, " _"]],
        against: frozenset[Modality] | None,
    ) -> Float32[np.ndarray, "dim"]:
        """One content as a query: fills every block it can be compared with, among the modalities `against`.

        Each block is compared with the query vector of its own space and modality, at the block's weight; or else with
        one of a comparable space (a text vector in the block of bridged images), centred by the mean of the query's
        modality, at the weight of the block's modality times `CROSS_MODAL_WEIGHTS` times the confidence in such
        matches. A perfect match scores 1, or that confidence if only such matches are possible. Raises
        SpaceMismatchError if no block is comparable.
        """
        filled = np.zeros(self.dim, dtype=np.float32)
        confidence = 0.0
        for index, (block, part) in enumerate(zip(self.blocks, self.slices, strict=True)):
            if against is not None and block.modality not in against:
                continue
            source = _comparable_space(block, modality, vectors)
            if source is not None:
                is_own = source == block.space
                trust = 1.0 if is_own else self._cross_modal_confidence(index, source, modality)
                confidence = max(confidence, trust)
                centred = centre(vectors[source][None], self._mean_of(source, modality, index))
                scale = None if is_own else self._cross_modal_scale(index, source, trust)
                filled[part] = self.project(index, centred, scale)[0]
        if not confidence:
            blocks = [block.name for block in self.blocks if against is None or block.modality in against]
            raise SpaceMismatchError(
                f"a query by {modality} (spaces: {', '.join(space.name for space in vectors)}) cannot be compared with "
                f"these items (blocks: {', '.join(blocks) or 'no block'}). Query with a modality the items have, or "
                "index them with an encoder whose space takes both."
            )
        return self.scale_to_unit_max_score(filled) * np.float32(confidence)

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

    def fade_cross_modal(
        self, modality: Modality, query: Float32[np.ndarray, "dim"], item_vectors: Float32[np.ndarray, "n dim"]
    ) -> Float32[np.ndarray, "n dim"]:
        """Item vectors for scoring a query by one content: the better its own modality matches, the less others count.

        With c the cosine of the query in the blocks of its own modality, the other blocks are scaled by
        1 - c / `CROSS_MODAL_FADE_COSINE`, from 1 for an item without that modality down to `CROSS_MODAL_FLOOR`. All
        are then scaled so that the greatest possible score stays the same.
        """
        own = np.zeros(self.dim, dtype=bool)
        greatest_of = {True: 0.0, False: 0.0}  # greatest score in the query's own modality, and in the others
        for block, part, weight in zip(self.blocks, self.slices, self.effective_weights, strict=True):
            own[part] = is_own = block.modality == modality
            greatest_of[is_own] += float(np.linalg.norm(query[part])) * float(np.sqrt(weight))
        if not greatest_of[True] or not greatest_of[False]:
            return item_vectors
        cosines = item_vectors[:, own] @ query[own] / np.float32(greatest_of[True])
        factors = np.clip(1 - cosines / np.float32(CROSS_MODAL_FADE_COSINE), np.float32(CROSS_MODAL_FLOOR), 1)[:, None]
        greatest = max(greatest_of[True] + CROSS_MODAL_FLOOR * greatest_of[False], greatest_of[False])
        scale = np.float32(sum(greatest_of.values()) / greatest)
        return np.where(own, item_vectors, item_vectors * factors) * scale

    def scale_to_unit_max_score(self, query: Float32[np.ndarray, "dim"]) -> Float32[np.ndarray, "dim"]:
        """Scale a query so that an item which matches it wholly scores 1, whatever blocks it fills."""
        lengths = [float(np.linalg.norm(query[part])) for part in self.slices]
        best = sum(
            length * float(np.sqrt(weight)) for length, weight in zip(lengths, self.effective_weights, strict=True)
        )
        return query / np.float32(best) if best > 0 else query

    def contributions(self, query: Float32[np.ndarray, "dim"], item: Float32[np.ndarray, "dim"]) -> dict[str, float]:
        """The part of an item's score that comes from each of its modalities; they sum to the score."""
        given: dict[str, float] = {}
        for block, part in zip(self.blocks, self.slices, strict=True):
            if query[part].any() and item[part].any():
                given[block.modality] = given.get(block.modality, 0.0) + float(query[part] @ item[part])
        return given

    def _cross_modal_scale(self, index: int, source: Space, trust: float) -> float:
        """Length of a query in a block of another modality; an item's there is the root of the block's own weight."""
        modality = self.blocks[index].modality
        weight = sum(float(w) for w, block in zip(self.weights, self.blocks, strict=True) if block.modality == modality)
        # Normalisation constant of `effective_weights`.
        norm = float((self.weights * confidences(self.blocks, self.agreements)[0]).sum())
        own = float(np.sqrt(self.effective_weights[index]))
        return CROSS_MODAL_WEIGHTS[source.approximates is not None] * trust * weight / norm / own

    def _cross_modal_confidence(self, index: int, source: Space, modality: Modality) -> float:
        """Confidence in a match of texts with a block, or with the block of the query's own space and modality."""
        across = confidences(self.blocks, self.agreements)[1]
        own = [
            float(trust)
            for trust, block in zip(across, self.blocks, strict=True)
            if block.space == source and block.modality == modality
        ]
        return min([float(across[index]), *own])

    def _mean_of(self, source: Space, modality: Modality, block: int) -> Float32[np.ndarray, " _"]:
        """The mean of the query's own space and modality if items have it, else that of the block."""
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
    """Fit means and rotations on unit vectors sampled from the catalog, one array per block; at most `dim` dimensions.

    Sums run in the order given, so give the samples in an order that depends on their contents alone. `measure`
    returns the agreement of modalities with the texts; modalities of little agreement get fewer dimensions.
    """
    means = tuple(shrunken_mean(sample) for sample in samples)
    rotations = [fit_rotation(centre(sample, mean), dim) for sample, mean in zip(samples, means, strict=True)]
    counts = tuple(len(sample) for sample in samples)

    is_approximating = np.array([block.space.approximates is not None for block in blocks])
    factors = np.where(is_approximating, np.float32(APPROXIMATING_ENERGY_FACTOR), np.float32(1))

    def fitted(trust: Float32[np.ndarray, "blocks"]) -> Fusion:
        energies = [rotation.energy for rotation in rotations]
        kept = allocate_dimensions(energies, factors * np.maximum(trust, np.float32(LEAST_ENERGY_FACTOR)), dim)
        cut = tuple(aligned(rotation.truncated(count)) for rotation, count in zip(rotations, kept, strict=True))
        return Fusion(tuple(blocks), weights, means, cut, counts)

    fusion = fitted(np.ones(len(blocks), dtype=np.float32))
    agreements = measure(fusion) if measure is not None else ()
    trust = np.where(is_approximating, *reversed(confidences(blocks, agreements))).astype(np.float32)
    return replace(fusion if (trust == 1).all() else fitted(trust), agreements=agreements)


def _comparable_space(block: Block, modality: Modality, vectors: Mapping[Space, np.ndarray]) -> Space | None:
    if block.modality == modality and block.space in vectors:
        return block.space
    return next((space for space in vectors if space.comparison_key == block.space.comparison_key), None)


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
    """Read what `dump_fusion` wrote. Raises StoreError if the file is missing or malformed."""
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
