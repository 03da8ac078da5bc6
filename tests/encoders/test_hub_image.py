"""Networks of pictures through transformers and timm, against the libraries themselves."""

import numpy as np
import pytest
import torch
from encoders import small_models

from mmrec.encoders.hub.image import HubImage
from mmrec.encoders.hub.timm_image import TimmImage
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Modality

SIZES = [(32, 32), (300, 40), (25, 90), (500, 333)]
PICTURES = [small_models.noise(*size, seed) for seed, size in enumerate(SIZES)]
POOLED = {
    ("dinov2", None): lambda found: found.last_hidden_state[:, 0],
    ("dinov2", "cls"): lambda found: found.pooler_output,
    ("dinov2", "mean"): lambda found: found.last_hidden_state[:, 3:].mean(dim=1),
    ("dinov2", "pooler"): lambda found: found.pooler_output,
    ("convnext", None): lambda found: found.last_hidden_state.mean(dim=(2, 3)),
    ("convnext", "pooler"): lambda found: found.pooler_output,
}


def encoded(encoder):
    samples = [encoder.prepare(Modality.IMAGE, picture) for picture in PICTURES]
    (vectors,) = encoder.encode(Modality.IMAGE, samples).values()
    assert vectors.shape == (len(PICTURES), encoder.spaces[Modality.IMAGE][0].dim)
    return vectors


def unit(features):
    return torch.nn.functional.normalize(features, dim=1).numpy()


@pytest.mark.parametrize(("kind", "pooling"), POOLED)
def test_vectors_are_those_of_transformers(kind, pooling):
    from transformers import AutoImageProcessor, AutoModel

    folder = getattr(small_models, kind)()
    theirs, processor = AutoModel.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        found = theirs(processor(images=PICTURES, return_tensors="pt")["pixel_values"])
    expected = unit(POOLED[kind, pooling](found))
    np.testing.assert_allclose(encoded(HubImage(str(folder), pooling=pooling)), expected, atol=1e-5, rtol=0)


def test_vectors_are_those_of_timm():
    import timm

    folder = small_models.timm_vit()
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs), is_training=False)
    with torch.no_grad():
        expected = unit(theirs(torch.stack([transform(picture) for picture in PICTURES])))
    ours = TimmImage(str(folder))
    assert ours.image_side == 48
    np.testing.assert_allclose(encoded(ours), expected, atol=1e-5, rtol=0)


def test_poolings_that_a_network_lacks_are_explained():
    with pytest.raises(UsageError, match=r"no pooling 'max' of images. Allowed: cls, mean, pooler"):
        HubImage(str(small_models.dinov2()), pooling="max")
    with pytest.raises(EncoderError, match=r"no class token. Set pooling to mean"):
        _ = HubImage(str(small_models.convnext()), pooling="cls").module


def test_a_model_of_another_library_is_explained():
    with pytest.raises(EncoderError, match=r"HubImage"):
        _ = TimmImage(str(small_models.dinov2())).spaces
    with pytest.raises(EncoderError, match="TimmImage"):
        _ = HubImage(str(small_models.timm_vit())).spaces
