"""What must hold of fused vectors whatever the catalog."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrec.errors import SpaceMismatchError, UsageError
from mmrec.fusion.agreement import Agreement
from mmrec.fusion.blocks import Block, block_weights, centre
from mmrec.fusion.fusion import CROSS_MODAL_FADE_COSINE, CROSS_MODAL_FLOOR, Fusion, dump_fusion, fit, load_fusion
from mmrec.types import Modality, Space
from mmrec.unit import unit

TEXT = Space("words", 12, "fp-words")
IMAGE = Space("pixels", 20, "fp-pixels")
BRIDGE = Space("pixels-bridge", 12, "fp-bridge", approximates="fp-words")
AUDIO = Space("waves", 16, "fp-waves")
BLOCKS = (
    Block(TEXT, Modality.TEXT),
    Block(IMAGE, Modality.IMAGE),
    Block(BRIDGE, Modality.IMAGE),
    Block(AUDIO, Modality.AUDIO),
)
ALL_DIMS = sum(block.space.dim for block in BLOCKS)

weights = st.fixed_dictionaries({modality: st.floats(0.05, 5) for modality in Modality})
seeds = st.integers(0, 10_000)


def contents(seed: int, count: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [unit((rng.normal(size=(count, b.space.dim)) + rng.normal(size=b.space.dim)).astype("f4")) for b in BLOCKS]


def fitted(seed: int, by_modality: dict[Modality, float], dim: int = ALL_DIMS) -> tuple[Fusion, list[np.ndarray]]:
    vectors = contents(seed)
    return fit(BLOCKS, block_weights(BLOCKS, by_modality), vectors, dim), vectors


def fused(fusion: Fusion, vectors: list[np.ndarray], present: np.ndarray | None = None) -> np.ndarray:
    there = np.ones((len(vectors[0]), len(BLOCKS)), dtype=bool) if present is None else present
    return fusion.fuse([centre(v, fusion.means[i]) for i, v in enumerate(vectors)], there)


@given(seeds, weights)
@settings(max_examples=25, deadline=None)
def test_score_is_the_weighted_sum_of_block_cosines(seed, by_modality):
    fusion, vectors = fitted(seed, by_modality)
    items = fused(fusion, vectors)
    shifted = [v.astype("f8") - m for v, m in zip(vectors, fusion.means, strict=True)]
    centred = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in shifted]
    exact = sum(w * c @ c.T for w, c in zip(fusion.weights.astype("f8"), centred, strict=True))
    np.testing.assert_allclose(items @ items.T, exact, atol=1e-5)


@given(seeds, weights, st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_scaling_all_weights_changes_nothing(seed, by_modality, scale):
    once, vectors = fitted(seed, by_modality)
    again, _ = fitted(seed, {modality: weight * scale for modality, weight in by_modality.items()})
    np.testing.assert_allclose(fused(once, vectors), fused(again, vectors), atol=1e-5)


@given(seeds, weights)
@settings(max_examples=25, deadline=None)
def test_more_weight_gives_a_modality_a_larger_share(seed, by_modality):
    small, vectors = fitted(seed, by_modality)
    large, _ = fitted(seed, {**by_modality, Modality.TEXT: by_modality[Modality.TEXT] * 2})
    item_small, item_large = fused(small, vectors)[0], fused(large, vectors)[0]
    assert large.contributions(item_large, item_large)["text"] > small.contributions(item_small, item_small)["text"]


@given(seeds, weights, st.permutations(["text", "image", "audio"]))
@settings(max_examples=25, deadline=None)
def test_key_order_changes_nothing(seed, by_modality, order):
    fusion, _ = fitted(seed, by_modality)
    shuffled = block_weights(BLOCKS, {Modality(name): by_modality[Modality(name)] for name in order})
    np.testing.assert_array_equal(fusion.weights, shuffled)
    rng = np.random.default_rng(seed)
    vectors = {space: unit(rng.normal(size=(1, space.dim)).astype("f4"))[0] for space in (IMAGE, BRIDGE)}
    backwards = dict(reversed(vectors.items()))
    one, other = (fusion.query(Modality.IMAGE, some, None) for some in (vectors, backwards))
    np.testing.assert_array_equal(one, other)


@given(seeds, weights, st.integers(8, ALL_DIMS))
@settings(max_examples=25, deadline=None)
def test_against_counts_those_modalities_alone(seed, by_modality, dim):
    fusion, vectors = fitted(seed, by_modality, dim)
    items = fused(fusion, vectors)
    against = frozenset({Modality.IMAGE})
    scores = items @ fusion.restricted(items[:1], against)[0]
    for item, score in zip(items, scores, strict=True):
        shares = fusion.contributions(items[0], item)
        assert score == pytest.approx(shares["image"], abs=1e-5)
        assert items[0] @ item == pytest.approx(sum(shares.values()), abs=1e-5)


@given(seeds, st.integers(4, ALL_DIMS))
@settings(max_examples=25, deadline=None)
def test_an_item_is_its_own_nearest_after_projection(seed, dim):
    fusion, vectors = fitted(seed, dict.fromkeys(Modality, 1.0), dim)
    items = fused(fusion, vectors)
    assert items.shape[1] == fusion.dim == dim
    scores = items @ items.T
    assert (scores.max(axis=1) <= np.diag(scores) + 1e-5).all()


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_batch_and_order_change_nothing(seed):
    fusion, vectors = fitted(seed, dict.fromkeys(Modality, 1.0), 24)
    whole = fused(fusion, vectors)
    order = np.random.default_rng(seed).permutation(len(whole))
    np.testing.assert_allclose(fused(fusion, [v[order] for v in vectors]), whole[order], atol=1e-6)
    np.testing.assert_allclose(fused(fusion, [v[:1] for v in vectors]), whole[:1], atol=1e-6)


def test_items_with_one_modality_do_not_crowd_the_top():
    rng = np.random.default_rng(0)
    count, poor = 3000, 1000
    vectors = contents(1, count)
    present = np.ones((count, len(BLOCKS)), dtype=bool)
    present[:poor, 1:] = False  # a third has text alone
    fusion = fit(BLOCKS, block_weights(BLOCKS, {}), vectors, 40)
    items = fused(fusion, vectors, present)
    words = unit(rng.normal(size=(300, TEXT.dim)).astype("f4"))
    shares = []
    for word in words:
        query = fusion.query(Modality.TEXT, {TEXT: word}, frozenset({Modality.TEXT}))
        top = np.argsort(-(items @ query))[:10]
        shares.append((top < poor).mean())
    assert np.mean(shares) == pytest.approx(poor / count, abs=0.05)


def test_text_meets_bridged_pictures_and_pictures_meet_texts():
    fusion, vectors = fitted(3, dict.fromkeys(Modality, 1.0))
    query = fusion.query(Modality.TEXT, {TEXT: vectors[0][0]}, None)
    text, image, bridge, audio = fusion.slices
    assert query[text].any()
    assert query[bridge].any()
    assert not query[image].any()
    assert not query[audio].any()
    picture = fusion.query(Modality.IMAGE, {IMAGE: vectors[1][0], BRIDGE: vectors[2][0]}, None)
    assert picture[text].any()


@given(seeds, weights, st.sampled_from([None, frozenset({Modality.TEXT}), frozenset({Modality.IMAGE, Modality.AUDIO})]))
@settings(max_examples=25, deadline=None)
def test_a_whole_match_scores_one_and_nothing_scores_more(seed, by_modality, against):
    fusion, vectors = fitted(seed, by_modality, 30)
    items = fused(fusion, vectors)
    query = fusion.scale_to_unit_max_score(fusion.restricted(items[:1], against)[0])
    assert items[0] @ query == pytest.approx(1, abs=1e-5)
    text = fusion.scale_to_unit_max_score(fusion.query(Modality.TEXT, {TEXT: vectors[0][3]}, against))
    assert (items @ text).max() <= 1 + 1e-5


def test_a_query_that_meets_nothing_names_both_sides():
    fusion, vectors = fitted(3, dict.fromkeys(Modality, 1.0))
    with pytest.raises(SpaceMismatchError, match=r"waves.*words\.text"):
        fusion.query(Modality.AUDIO, {AUDIO: vectors[3][0]}, frozenset({Modality.TEXT}))


@pytest.mark.parametrize("bad", [{Modality.TEXT: -1.0}, dict.fromkeys(Modality, 0.0), {Modality.IMAGE: float("nan")}])
def test_impossible_weights_are_refused(bad):
    with pytest.raises(UsageError, match="weights must be"):
        block_weights(BLOCKS, bad)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_catalog_of_a_few_items_still_has_directions(count):
    vectors = contents(5, max(count, 1))
    fusion = fit(BLOCKS, block_weights(BLOCKS, {}), [v[:count] for v in vectors], 32)
    assert fusion.dim == 32
    items = fused(fusion, vectors)
    assert np.isfinite(items).all()
    np.testing.assert_allclose((items**2).sum(axis=1), 1, atol=1e-4)


def test_files_keep_every_number_and_refuse_damage(tmp_path):
    from mmrec.errors import StoreError

    fusion, vectors = fitted(7, {Modality.TEXT: 2.0}, 30)
    path = tmp_path / "fusion.safetensors"
    path.write_bytes(dump_fusion(fusion))
    loaded = load_fusion(path)
    assert loaded.blocks == fusion.blocks
    np.testing.assert_array_equal(fused(loaded, vectors), fused(fusion, vectors))
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(StoreError, match="not a readable fusion file"):
            load_fusion(path)


@given(seeds, weights, st.floats(0.02, 1), st.floats(0.02, 1))
@settings(max_examples=25, deadline=None)
def test_confidence_scales_weights_and_a_score_is_still_their_sum_of_cosines(seed, by_modality, own, across):
    plain, vectors = fitted(seed, by_modality)
    measured = (
        Agreement("audio", 60, 0.5, 0.4, 0.6, own),
        Agreement("pixels-bridge.image", 60, 0.5, 0.4, 0.6, across),
        Agreement("image", 60, 0.9, 0.9, 0.9, 1.0),
    )
    fusion = replace(plain, agreements=measured)
    expected = plain.weights * np.array([1, 1, 1, own], dtype=np.float32)
    np.testing.assert_allclose(fusion.effective_weights, expected / expected.sum(), rtol=1e-5)
    items = fused(fusion, vectors)
    np.testing.assert_allclose((items**2).sum(axis=1), 1, atol=1e-4)
    for against, reach in ((None, 1.0), (frozenset({Modality.IMAGE}), across)):
        query = fusion.query(Modality.TEXT, {TEXT: vectors[0][3]}, against)
        pairs = zip(fusion.slices, fusion.effective_weights, strict=True)
        lengths = [np.linalg.norm(query[part]) * np.sqrt(weight) for part, weight in pairs]
        assert sum(lengths) == pytest.approx(reach, abs=1e-5)
        # Of a text's score, the block that it meets from outside has the share that its confidence leaves it.
        if against is None:
            image = by_modality[Modality.IMAGE]
            assert lengths[2] / lengths[0] == pytest.approx(0.5 * across * image / by_modality[Modality.TEXT], rel=1e-4)


@given(seeds, weights)
@settings(max_examples=25, deadline=None)
def test_matches_across_count_less_the_better_an_items_own_text_matches(seed, by_modality):
    fusion, vectors = fitted(seed, by_modality)
    present = np.ones((len(vectors[0]), len(BLOCKS)), dtype=bool)
    present[::2, 0] = False
    items = fused(fusion, vectors, present)
    text, _, bridge, _ = fusion.slices
    query = fusion.query(Modality.TEXT, {TEXT: vectors[0][3]}, None)
    faded = fusion.fade_cross_modal(Modality.TEXT, query, items)
    scale = faded[0, bridge] @ items[0, bridge] / (items[0, bridge] @ items[0, bridge])
    cosines = items[:, text] @ query[text] / (np.linalg.norm(query[text]) * np.sqrt(fusion.effective_weights[0]))
    factors = np.clip(1 - cosines / CROSS_MODAL_FADE_COSINE, CROSS_MODAL_FLOOR, 1)
    assert cosines[3] == pytest.approx(1, abs=1e-5)
    # What lacks a text is found by its picture as ever; what has that very text is judged by it nearly alone.
    assert (factors[::2] == 1).all()
    assert factors[3] == pytest.approx(CROSS_MODAL_FLOOR)
    np.testing.assert_allclose(faded[:, bridge], items[:, bridge] * factors[:, None] * scale, atol=1e-5)
    np.testing.assert_allclose(faded[:, text], items[:, text] * scale, atol=1e-5)
    assert (faded @ query).max() <= 1 + 1e-5
    for against in (Modality.IMAGE, Modality.TEXT):
        alone = fusion.query(Modality.TEXT, {TEXT: vectors[0][3]}, frozenset({against}))
        assert fusion.fade_cross_modal(Modality.TEXT, alone, items) is items
