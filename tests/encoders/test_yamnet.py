import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmrec.encoders.packaged.label_bridge import AUDIOSET
from mmrec.encoders.packaged.yamnet import EXCERPTS, WEIGHTS, YamNet, load_yamnet, log_mel_patches
from mmrec.errors import MediaError
from mmrec.types import Modality, Waveform

ENCODER = YamNet()
TIME = np.arange(3 * 16_000) / 16_000
TONE = (0.4 * np.sin(2 * np.pi * 440 * TIME)).astype(np.float32)


def float_graph(folder: Path):
    """The file's own ONNX graph without its quantise and dequantise nodes: an oracle that shares no code with ours."""
    import onnx
    from onnx import TensorProto, helper

    with zipfile.ZipFile(io.BytesIO(WEIGHTS.read())) as archive:
        archive.extractall(folder)
    model = onnx.load(next(folder.rglob("model.onnx")))
    graph, source = model.graph, {}
    kept = []
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            source[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    for node in kept:
        for place, name in enumerate(node.input):
            while name in source:
                name = source[name]  # noqa: PLW2901
            node.input[place] = name
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(kept)
    names = next(node.output[0] for node in kept if node.op_type == "Reshape"), kept[-1].output[0]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return model


def test_equals_the_onnx_graph_without_rounding(tmp_path: Path):
    from onnx.reference import ReferenceEvaluator

    model = float_graph(tmp_path)
    patch = np.random.default_rng(0).normal(-3, 2, (1, 96, 64)).astype(np.float32)
    features, scores = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: patch[None]})
    with torch.inference_mode():
        own_features, own_scores = load_yamnet()(torch.from_numpy(patch))
    np.testing.assert_allclose(own_features, features, atol=1e-4)
    np.testing.assert_allclose(own_scores, scores, atol=1e-4)


def test_a_patch_is_what_its_definition_says():
    patches, _ = log_mel_patches(Waveform(TONE, 16_000))
    start = 48 * 160  # the second patch
    wave = TONE.astype(np.float64) * (0.9 / np.abs(TONE).max())
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitudes = [
        np.abs(np.fft.rfft(wave[start + 160 * step : start + 160 * step + 400] * hann, 512)) for step in range(96)
    ]
    edges = np.linspace(1127 * np.log(1 + 125 / 700), 1127 * np.log(1 + 7500 / 700), 66)
    mels = 1127 * np.log(1 + np.linspace(0, 8000, 257) / 700)
    filters = np.stack([np.interp(mels, edges[band : band + 3], [0, 1, 0], left=0, right=0) for band in range(64)])
    np.testing.assert_allclose(patches[1], np.log(np.stack(magnitudes) @ filters.T + 1e-3), atol=1e-3)


def test_loudness_does_not_count():
    loud, soft = (log_mel_patches(Waveform(TONE * gain, 16_000))[0] for gain in (np.float32(1), np.float32(0.01)))
    np.testing.assert_allclose(loud, soft, atol=1e-3)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_056, 44_100, 48_000, 192_000])
def test_any_rate_is_heard_alike(rate: int):
    times = np.arange(3 * rate) / rate
    sound = Waveform((0.4 * np.sin(2 * np.pi * 440 * times)).astype(np.float32), rate)
    first, second = (
        ENCODER.encode(Modality.AUDIO, [ENCODER.prepare(Modality.AUDIO, each)])["yamnet"][0]
        for each in (sound, Waveform(TONE, 16_000))
    )
    assert first @ second > 0.94  # rates below 16 kHz lack the highest bands


def test_a_short_sound_fills_one_patch():
    assert ENCODER.prepare(Modality.AUDIO, Waveform(TONE[:100], 16_000)).cost == 1


def test_a_long_sound_is_heard_from_start_to_end_and_says_so():
    random = np.random.default_rng(0)
    sound = Waveform(random.normal(0, 0.1, 16_000 * 600).astype(np.float32), 16_000)
    sample = ENCODER.prepare(Modality.AUDIO, sound)
    assert sample.truncated
    assert sample.cost == EXCERPTS * 19
    last = log_mel_patches(Waveform(np.concatenate([sound.samples[-160_000:]]), 16_000))[0]
    assert np.corrcoef(sample.tensor[-1].numpy().ravel(), last[-1].ravel())[0, 1] > 0.999
    assert not ENCODER.prepare(Modality.AUDIO, Waveform(sound.samples[: 16_000 * 120], 16_000)).truncated


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, dtype=np.float32),
        np.zeros(16_000, dtype=np.float32),
        np.full(16_000, 0.5, dtype=np.float32),
        np.full(16_000, np.nan, dtype=np.float32),
        np.append(TONE, np.float32(np.inf)),
    ],
    ids=["empty", "zero", "constant", "nan", "infinite"],
)
def test_what_cannot_be_heard_is_refused(samples: np.ndarray):
    with pytest.raises(MediaError, match=r"empty|silent|finite"):
        ENCODER.prepare(Modality.AUDIO, Waveform(samples, 16_000))


CLEAR = {
    "animals/birds/crow.ogg": "crow",
    "animals/birds/rooster.ogg": "chicken, rooster",
    "animals/birds/turkey.ogg": "turkey",
    "animals/insects/bee.ogg": "bee, wasp, etc.",
    "animals/mammals/bovines/cow_white.ogg": "cattle, bovinae",
    "animals/mammals/bovines/mountaingoat.ogg": "goat",
    "animals/mammals/bovines/sheep.ogg": "sheep",
    "animals/mammals/cats/tiger.ogg": "roaring cats (lions, tigers)",
    "hobbies/music/string/violin.ogg": "violin, fiddle",
    "household/toilet.ogg": "toilet flush",
    "vehicles/emergency/firetruck.ogg": "siren",
}


@pytest.mark.parametrize(("stamp", "name"), CLEAR.items())
def test_audioset_class_of_a_clear_sound(stamps_root: Path, stamp: str, name: str):
    samples, rate = soundfile.read(stamps_root / stamp, dtype="float32", always_2d=True)
    sample = ENCODER.prepare(Modality.AUDIO, Waveform(samples.mean(axis=1), rate))
    with torch.inference_mode():
        _, logits = ENCODER.module(sample.tensor)
    texts = AUDIOSET.read()
    order = [int(number) for number in logits.amax(dim=0).argsort(descending=True) if texts[int(number)]]
    assert f"the sound of {name}" in [texts[number][1] for number in order[:3]]
