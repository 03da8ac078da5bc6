"""Preprocessing of images and audio for hub models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from mmrec.encoders.hub.loading import load_part
from mmrec.encoders.hub.source import read_json

_PATCH = 16


def load_processor(folder: Path) -> Callable[[Image.Image], Float[Tensor, "_ _ _"]]:
    """Return the model's own preprocessing, of one image: channels first, or rows, columns and numbers of patches."""
    from transformers import AutoImageProcessor  # noqa: PLC0415 (takes seconds)

    processor = load_part(AutoImageProcessor, folder)

    def prepared(image: Image.Image) -> Float[Tensor, "_ _ _"]:
        made = processor(images=image, return_tensors="pt")
        pixels: Tensor = made["pixel_values"][0]
        if "spatial_shapes" not in made:
            return pixels
        # Patches of an image that keeps its shape, without those that pad it.
        rows, columns = made["spatial_shapes"][0].tolist()
        return pixels[: rows * columns].reshape(rows, columns, -1).clone()

    return prepared


def patches(pixels: Float[Tensor, "channels height width"], config: Any) -> int:  # noqa: ANN401
    """Return how many patches a network makes of an image: what encoding it costs, in tokens of a text."""
    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "patch_size", _PATCH)
    side = side if isinstance(side, int) and side > 0 else _PATCH
    return max(1, pixels.shape[1] * pixels.shape[2] // side**2)


def image_side(folder: Path) -> int:
    """Return the longer side, in pixels, of an image beyond which a model gains nothing; see `longer_side_for_crop`."""
    own = read_json(folder / "preprocessor_config.json") or read_json(folder / "processor_config.json")
    inside = own.get("image_processor")
    settings = inside if isinstance(inside, dict) else own
    sides = [value for key in ("size", "crop_size") for value in _numbers(settings.get(key))]
    return longer_side_for_crop(max(sides, default=224))


def longer_side_for_crop(side: int) -> int:
    """Return the longer side of a 3:2 image whose shorter side is resized to `side` before it is cropped."""
    return side * 3 // 2


def padded_patches(
    samples: list[Float[Tensor, "_ _ numbers"]],
) -> tuple[Float[Tensor, "batch patches numbers"], Tensor, Tensor]:
    """Return images of several shapes as one batch: patches, which of them are real, and each image's shape."""
    most = max(sample.shape[0] * sample.shape[1] for sample in samples)
    pixels = samples[0].new_zeros(len(samples), most, samples[0].shape[2])
    real = torch.zeros(len(samples), most, dtype=torch.int32)
    for row, sample in enumerate(samples):
        flat = sample.flatten(0, 1)
        pixels[row, : len(flat)], real[row, : len(flat)] = flat, 1
    return pixels, real, torch.tensor([sample.shape[:2] for sample in samples])


def _numbers(value: object) -> list[int]:
    found = value.values() if isinstance(value, dict) else [value]
    return [number for number in found if isinstance(number, int) and not isinstance(number, bool)]


def windows(samples: Float32[np.ndarray, " n"], length: int, most: int) -> tuple[list[Float32[np.ndarray, " _"]], bool]:
    """Return the encoded parts of a clip, in windows of at most `length` samples, and whether parts are left out.

    A clip of up to `most` windows is cut into as many of one length, which overlap as little as they can; of a longer
    one only that many, evenly spread.
    """
    if len(samples) <= length:
        return [samples], False
    count = min(most, -(-len(samples) // length))
    starts = np.linspace(0, len(samples) - length, count).round().astype(int).tolist()
    return [samples[start : start + length] for start in starts], len(samples) > most * length
