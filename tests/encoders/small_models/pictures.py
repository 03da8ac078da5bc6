"""Models of pictures, and pictures to give them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from encoders.small_models.saving import BERT, WIDE, saved


def noise(width: int, height: int, seed: int) -> Any:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (max(height // 8, 1), max(width // 8, 1), 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@saved
def dinov2(folder: Path) -> None:
    """As DINOv2 with registers: class token, registers, patches of 14 pixels."""
    from transformers import BitImageProcessor, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "mlp_ratio": 2}
    config = Dinov2WithRegistersConfig(image_size=28, patch_size=14, num_register_tokens=2, **size, **WIDE)
    Dinov2WithRegistersModel(config).save_pretrained(folder)


@saved
def convnext(folder: Path) -> None:
    """A network of convolutions, whose states are maps."""
    from transformers import ConvNextConfig, ConvNextImageProcessor, ConvNextModel

    ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)
    ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], **WIDE)).save_pretrained(folder)


@saved
def timm_vit(folder: Path) -> None:
    """As timm saves its vision transformers, with the preprocessing they were evaluated with."""
    import timm
    from timm.models import save_for_hf

    size = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7, **size)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.2)
    own = {"input_size": (3, 32, 32), "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.2), "crop_pct": 0.9}
    save_for_hf(network, folder, model_config=own, model_args=size, safe_serialization=True)


@saved
def plain_vit(folder: Path) -> None:
    """A vision transformer as transformers saves it."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    ViTModel(ViTConfig(image_size=32, patch_size=8, **BERT)).save_pretrained(folder)
