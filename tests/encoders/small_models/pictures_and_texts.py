"""Models of pictures and texts in one space, as transformers and as open_clip save them."""

import json
from pathlib import Path
from typing import Any

import torch
from encoders.small_models.saving import saved
from encoders.small_models.texts import xlm_prompts
from encoders.small_models.tokenizers_of import byte_pairs, unigram

VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CLIP_TEMPLATE = "<|start|> $A <|end|>"


@saved
def clip(folder: Path) -> None:
    """As OpenAI's CLIP in transformers' format: byte pairs, causal text tower, padding with the end token."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = byte_pairs(CLIP_TEMPLATE, length=24, pad="<|end|>")
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    end = tokenizer.eos_token_id
    text = {
        **VISION,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 24,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    vision = {**VISION, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)


@saved
def siglip(folder: Path) -> None:
    """As SigLIP and the fixed-size SigLIP 2: sentence pieces, every text padded to its full length."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    tokenizer = unigram(16)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    text = {**VISION, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "pad_token_id": 1, "eos_token_id": 2}
    vision = {**VISION, "image_size": 32, "patch_size": 8}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)


@saved
def siglip2(folder: Path) -> None:
    """As SigLIP 2 NaFlex: pictures keep their shape, in patches of which there are more or fewer."""
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model

    tokenizer = unigram(16)
    tokenizer.save_pretrained(folder)
    Siglip2ImageProcessor(patch_size=8, max_num_patches=24).save_pretrained(folder)
    text = {**VISION, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "pad_token_id": 1, "eos_token_id": 2}
    vision = {**VISION, "num_patches": 16, "patch_size": 8}
    Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)).save_pretrained(folder)


CLIP_SIZE = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2},
}


def _save_open_clip(folder: Path, size: dict[str, Any], preprocess: dict[str, Any]) -> None:
    """As open_clip's `push_to_hf_hub` writes: its own configuration and weights, of the model it builds from that."""
    import open_clip
    from safetensors.torch import save_file

    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": size, "preprocess_cfg": preprocess}))
    network = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    generator = torch.Generator().manual_seed(1)
    for value in network.parameters():
        if value.ndim > 1:
            value.data.normal_(std=0.1, generator=generator)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )


@saved
def open_clip_vit(folder: Path) -> None:
    """As LAION's CLIP models: byte pairs, squashed nowhere, cropped."""
    _save_open_clip(folder, CLIP_SIZE, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2]})


@saved
def open_clip_siglip(folder: Path) -> None:
    """As SigLIP in open_clip: a vision tower of timm, a tokenizer of transformers, pictures squashed."""
    unigram(16).save_pretrained(folder)
    vision = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"}
    text = {**CLIP_SIZE["text_cfg"], "context_length": 16, "vocab_size": 300, "hf_tokenizer_name": "some/where"}
    text |= {"no_causal_mask": True, "pool_type": "last", "tokenizer_kwargs": {"clean": "canonicalize"}}
    size = {"embed_dim": 24, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    _save_open_clip(folder, size, {"resize_mode": "squash", "interpolation": "bicubic"})


@saved
def open_clip_xlm(folder: Path) -> None:
    """As LAION's multilingual CLIP: a text tower of transformers, described by files of its own."""
    unigram(32).save_pretrained(folder)
    text = {"hf_model_name": str(xlm_prompts()), "hf_tokenizer_name": "some/where", "hf_pooler_type": "mean_pooler"}
    size = {**CLIP_SIZE, "text_cfg": {**text, "context_length": 32}}
    _save_open_clip(folder, size, {})
