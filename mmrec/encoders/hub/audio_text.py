"""CLAP models of audio and text as encoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mmrec.encoders.contents import checked_audio, checked_text, resampled
from mmrec.encoders.hub.base import JointEncoder
from mmrec.encoders.hub.loading import features_of, load_network, load_part, once
from mmrec.encoders.hub.preprocessing import windows
from mmrec.encoders.hub.tokens import Tokens, load_tokens, token_batch
from mmrec.encoders.protocol import Sample
from mmrec.encoders.vectors import unit_rows, window_means
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality, Waveform

MOST_WINDOWS = 12

Extractor: TypeAlias = Any
"""CLAP's feature extractor of transformers; never changed."""


def mel_windows(extractor: Extractor, audio: Waveform) -> tuple[Float32[Tensor, "windows layers frames mels"], bool]:
    """Return a clip's mel spectrograms, one or several windows, and whether parts of it were left out."""
    samples = resampled(audio.samples, audio.rate, extractor.sampling_rate)
    length = int(extractor.nb_max_samples)
    if extractor.truncation == "fusion":
        return (_fused(extractor, samples)[None] if len(samples) > length else _short(extractor, samples)), False
    parts, left_out = windows(samples, length, MOST_WINDOWS)
    return torch.cat([_short(extractor, part) for part in parts]), left_out


def _short(extractor: Extractor, samples: Float32[np.ndarray, " n"]) -> Float32[Tensor, "1 layers frames mels"]:
    made = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    mels: Tensor = made["input_features"]
    return mels.to(torch.float32)


def _fused(extractor: Extractor, samples: Float32[np.ndarray, " n"]) -> Float32[Tensor, "4 frames mels"]:
    """The whole clip scaled down in time, and windows from the middle of each third of their possible starts."""
    from transformers.audio_utils import spectrogram, window_function  # noqa: PLC0415

    mel = spectrogram(
        samples,
        window_function(extractor.fft_window_size, "hann"),
        frame_length=extractor.fft_window_size,
        hop_length=extractor.hop_length,
        power=2.0,
        mel_filters=extractor.mel_filters,
        log_mel="dB",
    ).T.astype(np.float32)
    frames = int(extractor.nb_max_samples) // int(extractor.hop_length) + 1
    thirds = np.array_split(np.arange(max(1, len(mel) - frames + 1)), 3)
    starts = [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]
    whole = torch.from_numpy(mel)
    coarse = torch.nn.functional.interpolate(
        whole[None, None], size=(frames, whole.shape[1]), mode="bilinear", align_corners=False
    )
    return torch.stack([coarse[0, 0], *(whole[start : start + frames] for start in starts)])


_WINDOW_COST = 256  # about as many tokens of a text cost what ten seconds of audio do


@dataclass(frozen=True, eq=False)
class HubAudioText(JointEncoder):
    """Audio or text -> one space for both, so that text finds audio. Weights are read at first use.

    Of clips longer than the network's window (ten seconds), checkpoints trained with fusion see the whole clip scaled
    down plus three excerpts; others see up to twelve windows over all of it, whose vectors are averaged.
    """

    _reads = (Modality.TEXT, Modality.AUDIO)
    _batch_costs = (1_024, 32_768)  # tokens of texts per batch; a window of audio counts as 256

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError if that fails, or it lacks one of the two towers."""
        from transformers import AutoModel  # noqa: PLC0415 (takes seconds)

        network = load_network(AutoModel, self._files.with_weights(), self.device, self.dtype)
        if not (hasattr(network, "get_text_features") and hasattr(network, "get_audio_features")):
            raise EncoderError(f"{self.model} is a {type(network).__name__}, which does not join audio and text.")
        return network

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content as the model's own processor does. Raises MediaError if it cannot be encoded."""
        if modality is not Modality.TEXT:
            mels, truncated = mel_windows(self._extractor, checked_audio(self.model, modality, content))
            return Sample(mels, cost=_WINDOW_COST * len(mels), truncated=truncated)
        numbers, truncated = self._tokens(checked_text(self.model, modality, content))
        return Sample(torch.tensor(numbers, dtype=torch.int32), cost=len(numbers), truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        if modality is Modality.AUDIO:
            return {self._space.name: self._audio(samples)}
        network: Any = self.module
        tokens, real = token_batch(samples, self._tokens)
        found = network.get_text_features(input_ids=self.to_device(tokens), attention_mask=self.to_device(real.long()))
        return {self._space.name: unit_rows(features_of(found))}

    def _audio(self, samples: Sequence[Sample]) -> Float[Tensor, "n dim"]:
        network: Any = self.module

        def forward(mels: Float[Tensor, "n layers frames mels"]) -> Float[Tensor, "n dim"]:
            # The four layers of a clip of one window are copies of one.
            longer = torch.tensor([[len(mel) > 1 and not torch.equal(mel[0], mel[1])] for mel in mels])
            found = network.get_audio_features(
                input_features=self.to_device(mels).to(self.dtype), is_longer=self.to_device(longer)
            )
            return unit_rows(features_of(found))

        return unit_rows(
            window_means([sample.tensor for sample in samples], max(1, self.batch_cost // _WINDOW_COST), forward)
        )

    def _dim(self) -> int:
        return self._cached_dim("dimension of an audio model", self._joint_dim)

    def _settings(self) -> dict[str, object]:
        return {"kind": "audio-text", "version": 1}

    def _joint_dim(self) -> int:
        if not hasattr(self._config, "audio_config") or not isinstance(self._config.projection_dim, int):
            raise EncoderError(
                f"{self.model} is a {self._config.model_type} model, which does not join audio and text."
            )
        return int(self._config.projection_dim)

    @once
    def _extractor(self) -> Extractor:
        from transformers import AutoFeatureExtractor  # noqa: PLC0415 (takes seconds)

        extractor = load_part(AutoFeatureExtractor, self._files.folder)
        needed = ("sampling_rate", "nb_max_samples", "truncation", "mel_filters", "fft_window_size", "hop_length")
        if any(not hasattr(extractor, name) for name in needed):
            raise EncoderError(
                f"{self._files.folder} has a {type(extractor).__name__}, which is not CLAP's. Name another encoder."
            )
        return extractor

    @once
    def _tokens(self) -> Tokens:
        text = self._config.text_config
        # Its text tower keeps the first places for padding, as RoBERTa does.
        return load_tokens(self._files.folder, None, text.max_position_embeddings - text.pad_token_id - 1)
