"""CLAP models of audio and text as encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from mmrec.encoders.hub.loading import (
    check_items,
    features_of,
    load_config,
    load_network,
    load_part,
    once,
    shared_space,
)
from mmrec.encoders.hub.preprocessing import checked_sound, resampled, windows
from mmrec.encoders.hub.source import ModelFiles, find_model, noted, space_name
from mmrec.encoders.hub.tokens import Tokens, load_tokens, token_batch
from mmrec.encoders.protocol import Sample, Vectors, fingerprint
from mmrec.encoders.vectors import CPU, arrays, unit_rows
from mmrec.errors import EncoderError
from mmrec.types import Content, Modality, Space, Waveform

MOST_WINDOWS = 12


@dataclass(frozen=True, eq=False)
class ClapMels:
    """Turns sounds into what the network hears; `extractor` is transformers' own, and is never changed."""

    extractor: Any

    def __call__(self, sound: Waveform) -> tuple[Float32[Tensor, "windows layers frames mels"], bool]:
        """Return a sound's mel spectrograms, one or several windows, and whether parts of it were left out."""
        samples = resampled(sound, self.extractor.sampling_rate)
        length = int(self.extractor.nb_max_samples)
        if self.extractor.truncation == "fusion":
            return (self._fused(samples)[None] if len(samples) > length else self._short(samples)), False
        heard, left_out = windows(samples, length, MOST_WINDOWS)
        return torch.cat([self._short(window) for window in heard]), left_out

    def with_length(
        self, mels: Float[Tensor, "n layers frames mels"]
    ) -> tuple[Float[Tensor, "n layers frames mels"], Bool[Tensor, "n 1"]]:
        """Return the spectrograms and which of them are of a sound longer than one window."""
        # The four layers of a short sound are copies of one.
        longer = torch.tensor([[len(mel) > 1 and not torch.equal(mel[0], mel[1])] for mel in mels])
        return mels, longer

    def _short(self, samples: Float32[np.ndarray, " n"]) -> Float32[Tensor, "1 layers frames mels"]:
        made = self.extractor(samples, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        mels: Tensor = made["input_features"]
        return mels.to(torch.float32)

    def _fused(self, samples: Float32[np.ndarray, " n"]) -> Float32[Tensor, "4 frames mels"]:
        """The whole sound, scaled down in time, and the middle of each of three thirds of where a window can begin."""
        from transformers.audio_utils import spectrogram, window_function  # noqa: PLC0415

        own = self.extractor
        mel = spectrogram(
            samples,
            window_function(own.fft_window_size, "hann"),
            frame_length=own.fft_window_size,
            hop_length=own.hop_length,
            power=2.0,
            mel_filters=own.mel_filters,
            log_mel="dB",
        ).T.astype(np.float32)
        frames = int(own.nb_max_samples) // int(own.hop_length) + 1
        thirds = np.array_split(np.arange(max(1, len(mel) - frames + 1)), 3)
        starts = [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]
        whole = torch.from_numpy(mel)
        coarse = torch.nn.functional.interpolate(
            whole[None, None], size=(frames, whole.shape[1]), mode="bilinear", align_corners=False
        )
        return torch.stack([coarse[0, 0], *(whole[start : start + frames] for start in starts)])


def load_mels(folder: Path) -> ClapMels:
    """Load the extractor of a folder. Raises EncoderError where there is none of CLAP's kind."""
    from transformers import AutoFeatureExtractor  # noqa: PLC0415 (takes seconds)

    extractor = load_part(AutoFeatureExtractor, folder)
    needed = ("sampling_rate", "nb_max_samples", "truncation", "mel_filters", "fft_window_size", "hop_length")
    if any(not hasattr(extractor, name) for name in needed):
        raise EncoderError(f"{folder} has a {type(extractor).__name__}, which is not CLAP's. Name another encoder.")
    return ClapMels(extractor)


_ABLE = (Modality.TEXT, Modality.AUDIO)
_WINDOW_COST = 256  # about as many tokens of a text cost what ten seconds of sound do


@dataclass(frozen=True, eq=False)
class HubAudioText:
    """Sound or text -> one space for both, so that texts find sounds. Weights are read at first use.

    A sound longer than the network hears at once (ten seconds) is heard as the checkpoint was trained: by one that
    fuses, whole at a coarse scale and at three places at the fine one; by another in windows over all of it, at most
    twelve, whose vectors are averaged.

    Attributes:
        model: A model's directory, or its id on the hub.
        revision: Branch, tag or commit on the hub; what is on this machine already, else `main`, where None.
        name: Name of the space; made of the model's own where None.
        items: Which modalities of items are read, as in ``["audio"]``; both where None. Queries may be either.
        device: Where the network runs.
        dtype: Its number format.

    """

    model: str
    revision: str | None = None
    name: str | None = None
    items: Sequence[str] | None = None
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        check_items(self.items, _ABLE)

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space. Raises EncoderError where the model's files are not to be had."""
        return shared_space(self._space, _ABLE, self.items)

    @property
    def query_spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """The one space, for texts and sounds alike."""
        return shared_space(self._space, _ABLE)

    @property
    def batch_cost(self) -> int:
        """Tokens of texts a batch; a window of sound counts as 256."""
        return 1_024 if self.device.type == "cpu" else 32_768

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError where it cannot be, or has no such two towers."""
        from transformers import AutoModel  # noqa: PLC0415 (takes seconds)

        network = load_network(AutoModel, self._files.with_weights(), self.device, self.dtype)
        if not (hasattr(network, "get_text_features") and hasattr(network, "get_audio_features")):
            raise EncoderError(f"{self.model} is a {type(network).__name__}, which does not join sounds and texts.")
        return network

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content as the model's own processor does. Raises MediaError where it cannot be encoded."""
        if modality is not Modality.TEXT:
            mels, truncated = self._mels(checked_sound(self.model, modality, content))
            return Sample(mels, cost=_WINDOW_COST * len(mels), truncated=truncated)
        if not isinstance(content, str):
            raise EncoderError(f"{self.model} reads texts as str, and was given {type(content).__name__}.")
        numbers, truncated = self._tokens(content)
        return Sample(torch.tensor(numbers, dtype=torch.int32), cost=len(numbers), truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        if modality is Modality.AUDIO:
            return {self._space.name: self._sounds(samples)}
        network: Any = self.module
        tokens, real = token_batch(samples, self._tokens)
        found = network.get_text_features(input_ids=tokens.to(self.device), attention_mask=real.long().to(self.device))
        return {self._space.name: unit_rows(features_of(found))}

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch of one modality into unit vectors."""
        with torch.no_grad():  # not inference_mode: what is loaded in there could never be trained
            return arrays(self.embed(modality, samples))

    def _sounds(self, samples: Sequence[Sample]) -> Float[Tensor, "n dim"]:
        network: Any = self.module
        counts = [len(sample.tensor) for sample in samples]
        # A long sound alone can be many batches.
        chunks = torch.split(torch.cat([sample.tensor for sample in samples]), max(1, self.batch_cost // _WINDOW_COST))
        made = []
        for chunk in chunks:
            mels, longer = self._mels.with_length(chunk)
            found = network.get_audio_features(
                input_features=mels.to(self.device, self.dtype), is_longer=longer.to(self.device)
            )
            made.append(unit_rows(features_of(found)))
        return unit_rows(torch.stack([part.mean(dim=0) for part in torch.split(torch.cat(made), counts)]))

    @once
    def _files(self) -> ModelFiles:
        return find_model(self.model, self.revision)

    @once
    def _space(self) -> Space:
        pin = self._files.pin
        dim = noted(lambda: {"dim": self._joint_dim()}, pin=pin, of="width of a sound model", version=1)["dim"]
        return Space(space_name(self.model, self.name), int(dim), fingerprint(pin=pin, kind="audio-text", version=1))

    def _joint_dim(self) -> int:
        if not hasattr(self._config, "audio_config") or not isinstance(self._config.projection_dim, int):
            raise EncoderError(f"{self.model} is a {self._config.model_type} model, which joins no sounds and texts.")
        return int(self._config.projection_dim)

    @once
    def _config(self) -> Any:  # noqa: ANN401
        return load_config(self._files.folder)

    @once
    def _mels(self) -> ClapMels:
        return load_mels(self._files.folder)

    @once
    def _tokens(self) -> Tokens:
        text = self._config.text_config
        # Its text tower keeps the first places for padding, as RoBERTa does.
        return load_tokens(self._files.folder, None, text.max_position_embeddings - text.pad_token_id - 1)
