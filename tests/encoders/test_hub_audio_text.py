"""CLAP through transformers, against its own features."""

import numpy as np
import pytest
import torch
from encoders import small_models

from mmrec.encoders.hub.audio_text import HubAudioText
from mmrec.types import Modality, Waveform

TEXTS = ["A dog.", "a drum on an island", "一只狗", "the sea " * 90]
MODELS = {"unfused": small_models.clap, "fused": small_models.clap_fused}


def tone(seconds, rate=48_000, pitch=440.0):
    times = np.arange(int(seconds * rate)) / rate
    return Waveform((0.4 * np.sin(2 * np.pi * pitch * times * (1 + times / 20))).astype(np.float32), rate)


def encoded(encoder, modality, contents):
    samples = [encoder.prepare(modality, content) for content in contents]
    (vectors,) = encoder.encode(modality, samples).values()
    return vectors, samples


@pytest.mark.parametrize("kind", MODELS)
def test_vectors_are_those_of_transformers(kind):
    from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel

    folder = MODELS[kind]()
    theirs = ClapModel.from_pretrained(folder)
    tokenizer, extractor = AutoTokenizer.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    ours = HubAudioText(str(folder))
    tokens = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output.numpy()
    found, samples = encoded(ours, Modality.TEXT, TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert [sample.truncated for sample in samples] == [False, False, False, True]
    sounds = [tone(3), tone(0.2, pitch=900), tone(10, pitch=2_000)]
    given = extractor([sound.samples for sound in sounds], sampling_rate=48_000, return_tensors="pt")
    with torch.no_grad():
        features = theirs.get_audio_features(given["input_features"].float(), torch.zeros(3, 1, dtype=torch.bool))
    found, _ = encoded(ours, Modality.AUDIO, sounds)
    np.testing.assert_allclose(found, features.pooler_output.numpy(), atol=1e-5, rtol=0)
    assert ours.spaces[Modality.AUDIO] == ours.spaces[Modality.TEXT]
    assert ours.spaces[Modality.AUDIO][0].dim == found.shape[1]


def test_a_long_sound_is_fused_as_the_extractor_does_but_where_it_draws_places(monkeypatch):
    from transformers import AutoFeatureExtractor, ClapModel

    folder = small_models.clap_fused()
    theirs, extractor = ClapModel.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    # The extractor draws three places; here it draws the middle of each third.
    monkeypatch.setattr(np.random, "choice", lambda places: places[len(places) // 2])
    given = extractor([tone(14).samples], sampling_rate=48_000, return_tensors="pt")
    assert given["is_longer"].tolist() == [[True]]
    with torch.no_grad():
        features = theirs.get_audio_features(given["input_features"].float(), given["is_longer"])
    found, (sample,) = encoded(HubAudioText(str(folder)), Modality.AUDIO, [tone(14)])
    np.testing.assert_allclose(found, features.pooler_output.numpy(), atol=1e-5, rtol=0)
    assert not sample.truncated


def test_a_long_sound_is_heard_in_windows_over_all_of_it():
    ours = HubAudioText(str(small_models.clap()))
    long = tone(25)
    vector, (sample,) = encoded(ours, Modality.AUDIO, [long])
    parts = [Waveform(long.samples[start : start + 480_000], 48_000) for start in (0, 360_000, 720_000)]
    heard, _ = encoded(ours, Modality.AUDIO, parts)
    mean = heard.mean(axis=0)
    np.testing.assert_allclose(vector[0], mean / np.linalg.norm(mean), atol=1e-5, rtol=0)
    assert (sample.cost, sample.truncated) == (3 * 256, False)
    assert ours.prepare(Modality.AUDIO, tone(150, rate=8_000)).truncated


def test_another_rate_is_resampled():
    ours = HubAudioText(str(small_models.clap()))
    found, _ = encoded(ours, Modality.AUDIO, [tone(3), tone(3, rate=44_100), tone(3, rate=24_000)])
    assert found[0] @ found[1] > 0.999
    assert found[0] @ found[2] > 0.999
