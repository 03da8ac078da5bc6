"""CLAP's own view of a sound, with nothing drawn at random.

transformers' extractor draws which ten seconds of a long sound are heard, and marks a short one as long where a batch
has no other: a vector would depend on chance and on its batch. Here the places are fixed, and a sound is marked as long
only where it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from mmrec.encoders.hub.networks import load_part
from mmrec.encoders.hub.sounds import resampled, windows
from mmrec.errors import EncoderError
from mmrec.items import Waveform

__all__ = ["ClapMels", "load_mels"]

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
