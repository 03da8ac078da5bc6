"""What holds for every encoder. A new one joins by one line in CASES."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from encoders import small_models
from finetuning.tuned_folders import tuned
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pretended_cuda import pretended_cuda

from mmrec.encoders.hub.audio_text import HubAudioText
from mmrec.encoders.hub.image import HubImage
from mmrec.encoders.hub.image_text import HubImageText
from mmrec.encoders.hub.multimodal import HubMultimodal
from mmrec.encoders.hub.open_clip import OpenClip
from mmrec.encoders.hub.speech import SpeechBundle
from mmrec.encoders.hub.text import HubText
from mmrec.encoders.hub.timm_image import TimmImage
from mmrec.encoders.packaged.efficientnet_lite import EfficientNetLite0
from mmrec.encoders.packaged.minilm import MiniLM
from mmrec.encoders.packaged.yamnet import YamNet
from mmrec.encoders.protocol import Encoder
from mmrec.encoders.tuned import Tuned
from mmrec.encoders.tuned_config import derivations_of
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality, Waveform


def texts() -> list[str]:
    return ["A cat.", "red boat on a river " * 7, "ß", "a longer tale " * 120, "zwölf Äpfel", "A dog."]


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    sizes = [(224, 224), (40, 300), (900, 20), (1, 1), (500, 333)]
    return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def sounds() -> list[Waveform]:
    def tone(seconds: float, rate: int, pitch: float) -> Waveform:
        times = np.arange(int(seconds * rate)) / rate
        return Waveform((0.3 * np.sin(2 * np.pi * pitch * times) * np.exp(-times)).astype(np.float32), rate)

    return [
        tone(1, 16_000, 440),
        tone(0.05, 8_000, 300),
        tone(7, 44_100, 900),
        tone(2.2, 48_000, 200),
        tone(3, 22_050, 2_000),
    ]


@dataclass(frozen=True)
class Case:
    """An encoder and one of its modalities; `reached` is the least share of its parameters that this one trains."""

    build: Callable[[], Any]
    modality: Modality
    contents: Callable[[], list[Any]]
    reached: float = 0.9


def hub(kind: Callable[..., Any], model: Callable[[], Any], **settings: Any) -> Callable[[], Any]:
    """An encoder of a small checkpoint, which is made when it is first asked for."""
    return lambda: kind(str(model()), **settings)


def speech(name: str) -> Any:
    """A narrowed bundle, found by the name of a whole one while `small_bundles` lasts."""
    return SpeechBundle(name, str(small_models.bundle_weights(name)))


@contextmanager
def small_bundles() -> Iterator[None]:
    """Have torchaudio's bundles narrowed, for all encoders of them, those on another device included."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("HUBERT_BASE", "WAVLM_LARGE"):
            patched.setattr(torchaudio.pipelines, name, small_models.small_bundle(name))
        yield


CASES = {
    "minilm": Case(MiniLM, Modality.TEXT, texts),
    "efficientnet-lite0": Case(EfficientNetLite0, Modality.IMAGE, pictures),
    "yamnet": Case(YamNet, Modality.AUDIO, sounds),
    "text, mean": Case(hub(HubText, small_models.bert_mean), Modality.TEXT, texts),
    "text, five poolings": Case(hub(HubText, small_models.xlm_instructed), Modality.TEXT, texts),
    "text, decoder": Case(hub(HubText, small_models.qwen_last), Modality.TEXT, texts),
    "text, T5": Case(hub(HubText, small_models.t5_dense), Modality.TEXT, texts),
    "image, DINOv2": Case(hub(HubImage, small_models.dinov2), Modality.IMAGE, pictures),
    "image, ConvNeXt": Case(hub(HubImage, small_models.convnext), Modality.IMAGE, pictures),
    "image, timm": Case(hub(TimmImage, small_models.timm_vit), Modality.IMAGE, pictures),
    "CLIP, text": Case(hub(HubImageText, small_models.clip), Modality.TEXT, texts, 0.4),
    "CLIP, image": Case(hub(HubImageText, small_models.clip), Modality.IMAGE, pictures, 0.4),
    "SigLIP, text": Case(hub(HubImageText, small_models.siglip), Modality.TEXT, texts, 0.4),
    "SigLIP, image": Case(hub(HubImageText, small_models.siglip), Modality.IMAGE, pictures, 0.4),
    "SigLIP 2, image": Case(hub(HubImageText, small_models.siglip2), Modality.IMAGE, pictures, 0.4),
    "open_clip, text": Case(hub(OpenClip, small_models.open_clip_vit), Modality.TEXT, texts, 0.4),
    "open_clip, image": Case(hub(OpenClip, small_models.open_clip_vit), Modality.IMAGE, pictures, 0.4),
    "open_clip, XLM, text": Case(hub(OpenClip, small_models.open_clip_xlm), Modality.TEXT, texts, 0.4),
    "CLAP, text": Case(hub(HubAudioText, small_models.clap), Modality.TEXT, texts, 0.2),
    "CLAP, audio": Case(hub(HubAudioText, small_models.clap), Modality.AUDIO, sounds, 0.4),
    "CLAP fused, audio": Case(hub(HubAudioText, small_models.clap_fused), Modality.AUDIO, sounds, 0.4),
    "HuBERT": Case(partial(speech, "HUBERT_BASE"), Modality.AUDIO, sounds),
    "WavLM": Case(partial(speech, "WAVLM_LARGE"), Modality.AUDIO, sounds),
    "one model, text": Case(hub(HubMultimodal, small_models.three_in_one), Modality.TEXT, texts, 0.1),
    "one model, image": Case(hub(HubMultimodal, small_models.three_in_one), Modality.IMAGE, pictures, 0.1),
    "one model, audio": Case(hub(HubMultimodal, small_models.three_in_one), Modality.AUDIO, sounds, 0.1),
    "tuned, text": Case(partial(tuned, "minilm"), Modality.TEXT, texts),
    "tuned, image": Case(partial(tuned, "efficientnet-lite0"), Modality.IMAGE, pictures),
    "tuned, audio": Case(partial(tuned, "yamnet"), Modality.AUDIO, sounds),
}


@dataclass(frozen=True)
class Ready:
    case: Case
    encoder: Any
    modality: Modality
    contents: list[Content]
    samples: list[Any]
    alone: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=CASES, ids=str)
def ready(request: pytest.FixtureRequest) -> Iterator[Ready]:
    case = CASES[request.param]
    with small_bundles():
        encoder, contents = case.build(), case.contents()
        samples = [encoder.prepare(case.modality, content) for content in contents]
        single = [encoder.encode(case.modality, [sample]) for sample in samples]
        alone = {name: np.concatenate([vectors[name] for vectors in single]) for name in single[0]}
        yield Ready(case, encoder, case.modality, contents, samples, alone)


def test_follows_the_protocol(ready: Ready):
    assert isinstance(ready.encoder, Encoder)
    assert ready.encoder.batch_cost >= 1
    assert isinstance(ready.encoder.module, torch.nn.Module)


def test_what_is_computed_from_stored_vectors_is_what_the_network_gives(ready: Ready):
    found = [one for one in derivations_of(ready.encoder) if one.modality is ready.modality]
    assert bool(found) == isinstance(ready.encoder, Tuned)
    for one in found:
        stored = {name: ready.alone[space.name].astype(np.float16) for name, space in one.inputs.items()}
        made = one.compute({name: rows.astype(np.float32) for name, rows in stored.items()})
        assert (made * ready.alone[one.space.name]).sum(axis=1).min() >= 0.99999


def test_no_head_is_computed_where_its_input_may_be_of_another_modality():
    encoder = tuned("efficientnet-lite0")
    assert len(encoder.derivations) == 1
    joint = Tuned(encoder.folder)

    class Joint(EfficientNetLite0):
        @property
        def spaces(self):
            own = super().spaces
            return {**own, Modality.TEXT: own[Modality.IMAGE]}

    vars(joint)["_own_parent"] = Joint()
    assert joint.derivations == ()


def test_fills_its_spaces_with_finite_unit_vectors(ready: Ready):
    spaces = ready.encoder.spaces[ready.modality]
    assert list(ready.alone) == [space.name for space in spaces]
    for space in spaces:
        vectors = ready.alone[space.name]
        assert vectors.shape == (len(ready.samples), space.dim)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_different_contents_get_different_vectors(ready: Ready):
    for vectors in ready.alone.values():
        cosines = vectors @ vectors.T
        assert np.all(cosines[~np.eye(len(vectors), dtype=bool)] < 0.99999)


def test_a_vector_depends_on_its_own_content_alone(ready: Ready):
    numbers = st.lists(st.integers(0, len(ready.samples) - 1), min_size=1, max_size=7)

    @settings(max_examples=8, deadline=None, database=None)
    @given(numbers)
    def holds(batch: list[int]) -> None:
        together = ready.encoder.encode(ready.modality, [ready.samples[number] for number in batch])
        for space, vectors in together.items():
            np.testing.assert_allclose(vectors, ready.alone[space][batch], atol=1e-5, rtol=0)

    holds()


def test_the_same_batch_gives_the_same_bytes(ready: Ready):
    first, second = (ready.encoder.encode(ready.modality, ready.samples) for _ in range(2))
    for space, vectors in first.items():
        assert vectors.tobytes() == second[space].tobytes()


def test_threads_prepare_what_one_thread_prepares(ready: Ready):
    with ThreadPoolExecutor(8) as pool:
        prepared = list(pool.map(lambda content: ready.encoder.prepare(ready.modality, content), ready.contents * 8))
    for found, expected in zip(prepared, ready.samples * 8, strict=True):
        assert (found.cost, found.truncated) == (expected.cost, expected.truncated)
        assert torch.equal(found.tensor, expected.tensor)


def test_threads_may_be_the_first_to_prepare(ready: Ready):
    fresh = ready.case.build()
    with ThreadPoolExecutor(8) as pool:
        prepared = list(pool.map(lambda content: fresh.prepare(ready.modality, content), ready.contents * 2))
    assert torch.equal(prepared[0].tensor, ready.samples[0].tensor)


def test_gradients_reach_the_parameters(ready: Ready):
    network = ready.encoder.module
    vectors = ready.encoder.embed(ready.modality, ready.samples[:2])
    direction = torch.arange(1.0, 4.0)
    sum((rows[:, :3] @ direction).sum() for rows in vectors.values()).backward()
    moved = [
        name for name, value in network.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0
    ]
    network.zero_grad(set_to_none=True)
    assert len(moved) > ready.case.reached * len(list(network.parameters()))


def test_contents_of_another_kind_are_refused(ready: Ready):
    with pytest.raises(EncoderError, match="reads"):
        ready.encoder.prepare(ready.modality, Image.new("RGB", (9, 9)) if ready.modality is Modality.TEXT else "a text")


def test_all_that_meets_on_a_gpu_is_there(ready: Ready):
    """On a device that computes as the CPU does, and refuses tensors that were left on the host."""
    with pretended_cuda():
        encoder = replace(ready.encoder, device=torch.device("cuda"))
        found = encoder.encode(ready.modality, ready.samples[:3])
    assert all(parameter.is_cuda for parameter in encoder.module.parameters())
    for space, vectors in found.items():
        np.testing.assert_allclose(vectors, ready.alone[space][:3], atol=1e-5, rtol=0)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_vectors(ready: Ready):
    for dtype, least in ((torch.float32, 0.9999), (torch.float16, 0.99), (torch.bfloat16, 0.98)):
        encoder = replace(ready.encoder, device=torch.device("cuda"), dtype=dtype)
        for space, vectors in encoder.encode(ready.modality, ready.samples).items():
            assert np.min(np.sum(vectors * ready.alone[space], axis=1)) > least
