from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmrec.encoders.packaged.efficientnet_lite import EfficientNetLite0
from mmrec.encoders.packaged.label_bridge import IMAGENET
from mmrec.errors import MediaError
from mmrec.types import Modality


def test_every_shape_becomes_a_white_square():
    encoder = EfficientNetLite0()
    strip = encoder.prepare(Modality.IMAGE, Image.new("RGB", (20_000, 10), "black")).tensor
    assert strip.shape == (3, 224, 224)
    assert strip.dtype == torch.uint8
    assert (strip[:, 100] == 255).all()
    assert (strip[:, 111] == 0).all()


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(MediaError, match="0 x 5"):
        EfficientNetLite0().prepare(Modality.IMAGE, Image.new("RGB", (0, 5)))


def test_the_whole_picture_counts():
    encoder = EfficientNetLite0()
    picture = np.full((300, 600, 3), 200, dtype=np.uint8)
    left, right = picture.copy(), picture.copy()
    left[:, :40], right[:, -40:] = 0, 0
    first, second = (encoder.prepare(Modality.IMAGE, Image.fromarray(each)).tensor for each in (left, right))
    assert (first.flip(2).int() - second.int()).abs().max() <= 1


ENCODER = EfficientNetLite0()
CLEAR = {
    "animals/birds/hen.png": "hen",
    "animals/birds/vulture.png": "vulture",
    "animals/mammals/aquatic/otter.png": "otter",
    "animals/mammals/bovines/bison.png": "bison",
    "animals/mammals/rodents/beaver.png": "beaver",
    "food/fruit/strawberry.png": "strawberry",
    "food/vegetables/broccoli.png": "broccoli",
    "hobbies/binoculars.png": "binoculars",
    "sports/basketball.png": "basketball",
    "vehicles/cycle/pink_tricycle.png": "tricycle",
    "vehicles/emergency/firetruck.png": "fire truck",
}


@pytest.mark.parametrize(("stamp", "name"), CLEAR.items())
def test_imagenet_class_of_a_clear_picture(stamps_root: Path, stamp: str, name: str):
    with Image.open(stamps_root / stamp) as opened:
        picture = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened.convert("RGBA")).convert("RGB")
    sample = ENCODER.prepare(Modality.IMAGE, picture)
    with torch.inference_mode():
        logits = ENCODER.module((sample.tensor[None].float() - 127) / 128)
    assert IMAGENET.read()[int(logits.argmax())][0] == f"a photo of a {name}"
