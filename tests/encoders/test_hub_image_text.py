"""CLIP, SigLIP and SigLIP 2 through transformers, against the libraries' own features."""

import numpy as np
import pytest
import torch
from encoders import small_models

from mmrec.encoders.hub.image_text import HubImageText
from mmrec.types import Modality

TEXTS = ["A cat.", "red boats on a river", "一只猫坐在垫子上", "the sea " * 40]
SIZES = [(32, 32), (300, 40), (25, 90), (500, 333), (1, 1)]
MODELS = {"clip": small_models.clip, "siglip": small_models.siglip, "siglip2": small_models.siglip2}


def encoded(encoder, modality, contents):
    samples = [encoder.prepare(modality, content) for content in contents]
    (vectors,) = encoder.encode(modality, samples).values()
    return vectors, samples


def unit(features):
    return torch.nn.functional.normalize(getattr(features, "pooler_output", features), dim=1).numpy()


@pytest.mark.parametrize("kind", MODELS)
def test_vectors_are_those_of_transformers(kind):
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    folder = MODELS[kind]()
    theirs, tokenizer, processor = (
        part.from_pretrained(folder) for part in (AutoModel, AutoTokenizer, AutoImageProcessor)
    )
    ours = HubImageText(str(folder))
    assert ours.spaces[Modality.TEXT] == ours.spaces[Modality.IMAGE]
    padding = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": 16}
    given = tokenizer(TEXTS, truncation=True, return_tensors="pt", **padding)
    if kind != "clip":
        given = {"input_ids": given["input_ids"]}
    with torch.no_grad():
        expected = unit(theirs.get_text_features(**{name: given[name] for name in given if name != "token_type_ids"}))
    found, samples = encoded(ours, Modality.TEXT, TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert [sample.truncated for sample in samples][-1]
    pictures = [small_models.noise(*size, seed) for seed, size in enumerate(SIZES)]
    with torch.no_grad():
        expected = unit(theirs.get_image_features(**processor(images=pictures, return_tensors="pt")))
    found, _ = encoded(ours, Modality.IMAGE, pictures)
    assert found.shape == (5, ours.spaces[Modality.IMAGE][0].dim)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
