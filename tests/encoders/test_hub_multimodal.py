"""One model for texts, pictures and sounds, against sentence-transformers itself."""

import numpy as np
import pytest
from encoders import small_models

from mmrec.encoders.hub.multimodal import HubMultimodal
from mmrec.encoders.queries import prepare_query
from mmrec.errors import EncoderError, MediaError, UsageError
from mmrec.types import Modality, Waveform

TEXTS = ["A cat.", "red boats on a river", "一只猫坐在垫子上"]
PICTURES = [small_models.noise(*size, seed) for seed, size in enumerate([(32, 32), (300, 40), (25, 90)])]
SOUNDS = [
    (0.4 * np.sin(np.arange(16_000 * n) * pitch)).astype(np.float32) for n, pitch in ((1, 0.1), (3, 0.2), (2, 0.3))
]


def encoded(encoder, modality, contents, prepare=None):
    samples = [(prepare or encoder.prepare)(modality, content) for content in contents]
    (vectors,) = encoder.encode(modality, samples).values()
    return vectors


def test_vectors_are_those_of_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    folder = small_models.three_in_one()
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    ours = HubMultimodal(str(folder))
    spaces = ours.spaces
    assert set(spaces) == set(Modality)
    assert len({own for (own,) in spaces.values()}) == 1
    expected = theirs.encode_document(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(encoded(ours, Modality.TEXT, TEXTS), expected, atol=1e-5, rtol=0)
    queries = encoded(ours, Modality.TEXT, TEXTS, lambda *given: prepare_query(ours, *given))
    np.testing.assert_allclose(queries, theirs.encode_query(TEXTS, normalize_embeddings=True), atol=1e-5, rtol=0)
    assert np.abs(queries - expected).max() > 1e-3
    expected = theirs.encode(PICTURES, normalize_embeddings=True)
    np.testing.assert_allclose(encoded(ours, Modality.IMAGE, PICTURES), expected, atol=1e-5, rtol=0)
    given = [{"array": samples, "sampling_rate": 16_000} for samples in SOUNDS]
    expected = theirs.encode_document(given, normalize_embeddings=True, batch_size=1)  # together they would be padded
    waves = [Waveform(samples, 16_000) for samples in SOUNDS]
    np.testing.assert_allclose(encoded(ours, Modality.AUDIO, waves), expected, atol=1e-5, rtol=0)


def test_a_model_of_two_modalities_says_which():
    ours = HubMultimodal(str(small_models.clip()), items=["image"])
    assert set(ours.spaces) == {Modality.IMAGE}
    assert set(ours.query_spaces) == {Modality.TEXT, Modality.IMAGE}
    with pytest.raises(EncoderError, match="reads text, image, and was given audio"):
        ours.prepare(Modality.AUDIO, Waveform(SOUNDS[0], 16_000))
    with pytest.raises(UsageError, match="some of text, image"):
        _ = HubMultimodal(str(small_models.clip()), items=["audio"]).spaces
    with pytest.raises(MediaError, match="blank"):
        ours.prepare(Modality.TEXT, " \n")


def test_modules_of_a_models_own_are_never_run(tmp_path):
    (tmp_path / "modules.json").write_text('[{"idx": 0, "path": "", "type": "evil.Module"}]')
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(EncoderError, match="needs code of its own"):
        _ = HubMultimodal(str(tmp_path)).module
