from pathlib import Path

import numpy as np
import pytest
import torch

from mmrec.encoders.packaged import label_bridge
from mmrec.encoders.packaged.efficientnet_lite import EfficientNetLite0
from mmrec.encoders.packaged.label_bridge import AUDIOSET, IMAGENET, LabelBridge, Labels, load_vectors, save_vectors
from mmrec.encoders.packaged.minilm import MiniLM
from mmrec.encoders.packaged.yamnet import YamNet
from mmrec.types import Modality

ANIMALS = Labels("animals", lambda: [("a cat", "a kitten"), (), ("a dog",), ("a fish",)])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def text_vectors(*texts: str) -> np.ndarray:
    encoder = MiniLM()
    return encoder.encode(Modality.TEXT, [encoder.prepare(Modality.TEXT, text) for text in texts])["minilm"]


def test_a_certain_class_lands_on_its_texts(cache: Path):
    logits = torch.tensor([[90.0, 0, 0, 0], [0, 0, 90.0, 0], [0, 300.0, 0, 90.0]])  # the second class has no text
    bridged = LabelBridge(ANIMALS, power=1.0)(torch.log_softmax(logits, dim=1)).numpy()
    cats = text_vectors("a cat", "a kitten").mean(axis=0)
    expected = np.stack([cats / np.linalg.norm(cats), *text_vectors("a dog", "a fish")])
    np.testing.assert_allclose(bridged, expected, atol=1e-5)


def test_is_the_weighted_mean_of_its_definition(cache: Path):
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    bridged = LabelBridge(ANIMALS, power=0.5)(torch.log_softmax(logits, dim=1)).numpy()
    probabilities = torch.softmax(logits.double(), dim=1).numpy()[:, [0, 2, 3]] ** 0.5
    cats = text_vectors("a cat", "a kitten").mean(axis=0)
    labels = np.stack([cats / np.linalg.norm(cats), *text_vectors("a dog", "a fish")]).astype(np.float64)
    expected = probabilities @ labels
    np.testing.assert_allclose(bridged, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_labels_are_encoded_once(cache: Path, monkeypatch: pytest.MonkeyPatch):
    logits = torch.zeros(1, 4)
    first = LabelBridge(ANIMALS, power=1.0)(logits)
    monkeypatch.setattr(label_bridge, "_encode", lambda classes: pytest.fail("encoded again"))
    assert torch.equal(LabelBridge(ANIMALS, power=1.0)(logits), first)


@pytest.mark.parametrize(
    "damage", [lambda old: old[:-1], lambda old: old[:-1] + b"\0", lambda old: b"", lambda old: old[:40]]
)
def test_a_damaged_cache_is_not_used(cache: Path, damage):
    save_vectors("key", np.ones((2, 3), dtype=np.float32))
    assert load_vectors("key").shape == (2, 3)
    (file,) = cache.rglob("key.bin")
    file.write_bytes(damage(file.read_bytes()))
    assert load_vectors("key") is None
    assert [path.name for path in file.parent.iterdir()] == ["key.bin"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mmrec").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    save_vectors("key", np.ones((2, 3), dtype=np.float32))
    assert load_vectors("key") is None


def test_every_class_is_named():
    assert len(IMAGENET.read()) == 1000
    assert all(said[0].startswith("a photo of a ") for said in IMAGENET.read())
    heard = AUDIOSET.read()
    assert len(heard) == 521
    assert sum(not said for said in heard) == 26
    assert len({said for said in heard if said}) == 495


def test_bridged_spaces_meet_the_text_space():
    (text,) = MiniLM().spaces[Modality.TEXT]
    spaces = [EfficientNetLite0().spaces[Modality.IMAGE][1], YamNet().spaces[Modality.AUDIO][1]]
    assert [space.comparison_key for space in spaces] == [text.fingerprint] * 2
    assert len({text.fingerprint, *(space.fingerprint for space in spaces)}) == 3
    different = LabelBridge(IMAGENET, power=0.5).space("other", "network")
    assert different.fingerprint != LabelBridge(IMAGENET, power=0.6).space("other", "network").fingerprint
