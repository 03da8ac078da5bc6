"""Small checkpoints of the architectures that hub encoders read: initialised here, saved as their libraries save them.

Their weights are drawn at random, from a seed. Only what is in the files differs from a model of the hub.
"""

from encoders.small_models.pictures import convnext, dinov2, noise, timm_vit
from encoders.small_models.pictures_and_texts import (
    clip,
    open_clip_siglip,
    open_clip_vit,
    open_clip_xlm,
    siglip,
    siglip2,
)
from encoders.small_models.sounds import bundle_weights, clap, clap_fused, small_bundle
from encoders.small_models.texts import (
    bert_dense,
    bert_mean,
    plain_bert,
    qwen_last,
    t5_dense,
    xlm_instructed,
    xlm_prompts,
)
from encoders.small_models.three_kinds import three_in_one

__all__ = [
    "bert_dense",
    "bert_mean",
    "bundle_weights",
    "clap",
    "clap_fused",
    "clip",
    "convnext",
    "dinov2",
    "noise",
    "open_clip_siglip",
    "open_clip_vit",
    "open_clip_xlm",
    "plain_bert",
    "qwen_last",
    "siglip",
    "siglip2",
    "small_bundle",
    "t5_dense",
    "three_in_one",
    "timm_vit",
    "xlm_instructed",
    "xlm_prompts",
]
