"""The same contents give the same item vectors, whatever order they come in and whatever batch encoded them."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmrec.fusion.blocks import Block, aligned, block_weights, centre, fit_rotation
from mmrec.fusion.fusion import fit
from mmrec.types import Modality, Space
from mmrec.unit import unit

ONE = Block(Space("words", 48, "fp-words"), Modality.TEXT)
TWO = Block(Space("pixels", 64, "fp-pixels"), Modality.IMAGE)
BLOCKS = (ONE, TWO)


def contents(seed: int, count: int) -> list[np.ndarray]:
    """Vectors as encoders give them: a few strong directions, many weak ones of like strength."""
    rng = np.random.default_rng(seed)
    scales = [1 / np.sqrt(1 + np.arange(block.space.dim)) for block in BLOCKS]
    return [unit((rng.normal(size=(count, len(s))) * s + 0.3).astype("f4")).astype("f2") for s in scales]


def fused(vectors: list[np.ndarray], dim: int) -> np.ndarray:
    wide = [one.astype("f4") for one in vectors]
    fusion = fit(BLOCKS, block_weights(BLOCKS, {}), wide, dim)
    present = np.ones((len(wide[0]), len(BLOCKS)), dtype=bool)
    return fusion.fuse([centre(v, fusion.means[i]) for i, v in enumerate(wide)], present)


@given(st.integers(0, 10_000), st.sampled_from([5, 30, 60, 400]), st.sampled_from([16, 40, 80, 112]))
@example(309, 5, 16)
@example(14, 30, 80)
@settings(max_examples=60, deadline=None, derandomize=True)  # no choice of axes is steady for every subspace there is
def test_the_last_digit_of_a_content_does_not_turn_the_items(seed, count, dim):
    vectors = contents(seed, count)
    rng = np.random.default_rng(seed + 1)
    # Another batch rounds one number in a hundred to the other neighbour among the halves.
    other = [np.where(rng.random(v.shape) < 0.01, np.nextafter(v, np.float16(2)), v) for v in vectors]
    one, two = fused(vectors, dim), fused(other, dim)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    assert (np.einsum("nd,nd->n", one, two) / lengths).min() >= 0.99999


@given(st.integers(0, 10_000), st.integers(2, 47), st.integers(0, 90))
@settings(max_examples=25, deadline=None)
def test_aligned_axes_span_what_the_principal_ones_do(seed, kept, count):
    principal = fit_rotation(contents(seed, count)[0].astype("f4"), kept)
    axes = aligned(principal)
    ours, theirs = (one.directions.astype("f8") for one in (axes, principal))
    np.testing.assert_allclose(ours.T @ ours, np.eye(kept), atol=1e-5)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-5)


@pytest.mark.parametrize("kept", [1, 10, 48])
def test_principal_directions_are_those_of_an_exact_decomposition(kept):
    vectors = contents(3, 500)[0].astype("f8")
    values, directions = np.linalg.eigh(vectors.T @ vectors)
    found = fit_rotation(vectors.astype("f4"), kept)
    top = directions[:, ::-1][:, :kept]
    np.testing.assert_allclose(found.energy, values[::-1][:kept] / values.sum(), atol=1e-5)
    lost = vectors - vectors @ found.directions.astype("f8") @ found.directions.astype("f8").T
    exact = vectors - vectors @ top @ top.T
    assert (lost**2).sum() <= (exact**2).sum() + 1e-5 * (vectors**2).sum()
