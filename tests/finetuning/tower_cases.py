"""Every encoder that can be trained: the packaged ones with their weights, hub kinds with small checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from encoders import small_models
from PIL import Image

from mmrec.encoders.factories import EncoderSpec, build_encoder
from mmrec.finetuning.config import HeadSettings
from mmrec.finetuning.towers import EncoderSource
from mmrec.types import Modality, Waveform

HUB = "mmrec.encoders.hub."


def contents(modality: Modality) -> list[Any]:
    if modality is Modality.TEXT:
        return ["A cat.", "red boat on a river", "a longer tale of two dogs", "sea"]
    random = np.random.default_rng(0)
    if modality is Modality.IMAGE:
        return [Image.fromarray(random.integers(0, 256, (40 + 9 * n, 64, 3), dtype=np.uint8)) for n in range(4)]
    # One longer than the ten seconds that some hear at once.
    return [
        Waveform((0.3 * np.sin(pitch * np.arange(int(seconds * 16_000)) / 2_500)).astype(np.float32), 16_000)
        for pitch, seconds in ((200, 1), (440, 1), (900, 11))
    ]


@dataclass(frozen=True)
class Case:
    """One encoder, the modalities that are trained together, and the heads that it needs for vectors of one length."""

    factory: str
    model: Callable[[], Any] | None
    modalities: tuple[Modality, ...]
    heads: bool = False
    setting: str = "model"

    def spec(self) -> EncoderSpec:
        return EncoderSpec(self.factory, {} if self.model is None else {self.setting: str(self.model())})

    def source(self) -> EncoderSource:
        spec = self.spec()
        return EncoderSource(spec, build_encoder(spec, torch.device("cpu"), torch.float32))

    @property
    def head(self) -> HeadSettings | None:
        return HeadSettings(dim=16) if self.heads else None


TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
CASES = {
    "minilm": Case("mmrec.encoders.packaged.minilm.MiniLM", None, (TEXT,)),
    "efficientnet-lite0": Case("mmrec.encoders.packaged.efficientnet_lite.EfficientNetLite0", None, (IMAGE,), True),
    "yamnet": Case("mmrec.encoders.packaged.yamnet.YamNet", None, (AUDIO,), True),
    "text": Case(f"{HUB}text.HubText", small_models.bert_mean, (TEXT,)),
    "text, Dense layers": Case(f"{HUB}text.HubText", small_models.bert_dense, (TEXT,)),
    "text, T5, head": Case(f"{HUB}text.HubText", small_models.t5_dense, (TEXT,), True),
    "image": Case(f"{HUB}image.HubImage", small_models.dinov2, (IMAGE,)),
    "timm": Case(f"{HUB}timm_image.TimmImage", small_models.timm_vit, (IMAGE,)),
    "CLIP": Case(f"{HUB}image_text.HubImageText", small_models.clip, (TEXT, IMAGE)),
    "SigLIP": Case(f"{HUB}image_text.HubImageText", small_models.siglip, (TEXT, IMAGE)),
    "open_clip": Case(f"{HUB}open_clip.OpenClip", small_models.open_clip_vit, (TEXT, IMAGE)),
    "CLAP": Case(f"{HUB}audio_text.HubAudioText", small_models.clap, (TEXT, AUDIO)),
    "CLAP, fused": Case(f"{HUB}audio_text.HubAudioText", small_models.clap_fused, (AUDIO,)),
    "HuBERT": Case(f"{HUB}speech.SpeechBundle", lambda: "HUBERT_BASE", (AUDIO,), setting="bundle"),
    "WavLM": Case(f"{HUB}speech.SpeechBundle", lambda: "WAVLM_LARGE", (AUDIO,), setting="bundle"),
    "multimodal": Case(f"{HUB}multimodal.HubMultimodal", small_models.three_in_one, (TEXT, IMAGE, AUDIO)),
}
