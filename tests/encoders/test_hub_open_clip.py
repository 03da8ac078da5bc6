"""open_clip's models from directories and checkpoints, against `encode_image` and `encode_text`."""

import numpy as np
import open_clip
import pytest
import torch
from encoders import small_models

from mmrec.encoders.hub.open_clip import OpenClip
from mmrec.types import Modality

TEXTS = ["A cat.", "red boats on a river", "一只猫坐在垫子上", "the sea " * 90]
PICTURES = [
    small_models.noise(*size, seed) for seed, size in enumerate([(32, 32), (300, 40), (25, 90), (500, 333), (1, 1)])
]
MODELS = {
    "own towers": small_models.open_clip_vit,
    "vision tower of timm": small_models.open_clip_siglip,
    "text tower of transformers": small_models.open_clip_xlm,
}


def encoded(encoder, modality, contents):
    samples = [encoder.prepare(modality, content) for content in contents]
    (vectors,) = encoder.encode(modality, samples).values()
    return vectors, samples


@pytest.mark.parametrize("kind", MODELS)
def test_vectors_are_those_of_open_clip(kind):
    folder = MODELS[kind]()
    theirs, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    theirs.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    ours = OpenClip(str(folder))
    with torch.no_grad():
        texts = theirs.encode_text(tokenizer(TEXTS), normalize=True).numpy()
        pictures = theirs.encode_image(
            torch.stack([transform(picture) for picture in PICTURES]), normalize=True
        ).numpy()
    found, samples = encoded(ours, Modality.TEXT, TEXTS)
    np.testing.assert_allclose(found, texts, atol=1e-5, rtol=0)
    assert [sample.truncated for sample in samples] == [False, False, False, True]
    found, samples = encoded(ours, Modality.IMAGE, PICTURES)
    np.testing.assert_allclose(found, pictures, atol=1e-5, rtol=0)
    assert ours.spaces[Modality.IMAGE] == ours.spaces[Modality.TEXT]
    assert ours.spaces[Modality.IMAGE][0].dim == found.shape[1]
    assert ours.image_side == 48
