"""torchaudio's bundles, narrowed, against torchaudio itself."""

import numpy as np
import pytest
import torch
import torchaudio
from encoders import small_models

from mmrec.encoders.hub.speech import SpeechBundle
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Modality, Waveform

BUNDLES = ["WAV2VEC2_BASE", "WAV2VEC2_LARGE_LV60K", "HUBERT_BASE", "HUBERT_LARGE", "WAVLM_BASE_PLUS", "WAVLM_LARGE"]


def tone(seconds, rate=16_000, pitch=440.0):
    times = np.arange(int(seconds * rate)) / rate
    return Waveform((0.4 * np.sin(2 * np.pi * pitch * times * (1 + times / 20))).astype(np.float32), rate)


@pytest.fixture(params=BUNDLES)
def bundle(request, monkeypatch):
    monkeypatch.setattr(torchaudio.pipelines, request.param, small_models.small_bundle(request.param))
    return request.param


@pytest.mark.parametrize("layer", [None, 2])
def test_vectors_are_those_of_torchaudio(bundle, layer):
    folder = small_models.bundle_weights(bundle)
    theirs = getattr(torchaudio.pipelines, bundle).get_model(dl_kwargs={"model_dir": str(folder)}).eval()
    ours = SpeechBundle(bundle, str(folder), layer)
    sounds = [tone(1), tone(3, pitch=900), tone(1, pitch=2_000)]
    samples = [ours.prepare(Modality.AUDIO, sound) for sound in sounds]
    (vectors,) = ours.encode(Modality.AUDIO, samples).values()
    for sound, vector in zip(sounds, vectors, strict=True):
        with torch.no_grad():
            wave = torch.from_numpy(sound.samples)[None]
            expected = theirs.extract_features(wave)[0][(layer or 3) - 1].mean(dim=1)[0]
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(expected, dim=0), atol=1e-5, rtol=0)
    assert ours.spaces[Modality.AUDIO][0].dim == 32


def test_weights_that_are_not_there_are_named_with_their_address(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        EncoderError, match=r"no weights of HUBERT_BASE at .*checkpoints/hubert.*https://download.pytorch"
    ):
        _ = SpeechBundle("HUBERT_BASE").spaces
    with pytest.raises(UsageError, match=r"no audio bundle 'HUBERT'.*HUBERT_BASE"):
        _ = SpeechBundle("HUBERT").spaces
    (tmp_path / "other.pt").write_bytes(b"no weights")
    with pytest.raises(
        EncoderError, match=r"HUBERT_BASE, from .* cannot be loaded: .*more than tensors, or is damaged"
    ):
        _ = SpeechBundle("HUBERT_BASE", str(tmp_path / "other.pt")).module
    with pytest.raises(UsageError, match="has the layers 1 to 12"):
        _ = SpeechBundle("HUBERT_BASE", str(tmp_path / "other.pt"), 13).spaces
