"""YAMNet's own view of a sound: log-mel patches of 0.96 s. Pure numpy, so that decoding threads may share it."""

from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int

from mmrec.errors import MediaError
from mmrec.types import Waveform

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

__all__ = ["SETTINGS", "log_mel_patches"]

RATE = 16_000
FRAME, STEP, FFT = 400, 160, 512
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0
FLOOR = 1e-3  # 1e-6 finds fewer neighbours of the same class
PATCH, HOP = 96, 48  # frames; a patch overlaps the next by half
WINDOW = (PATCH - 1) * STEP + FRAME
PEAK = 0.9
SILENT = 1e-4  # peak below -80 dB of full scale
EXCERPTS, EXCERPT_SECONDS = 12, 10.0  # how a sound longer than all of them is heard; 249 patches at most
SETTINGS = (
    RATE, FRAME, STEP, FFT, BANDS, LOWEST, HIGHEST, FLOOR, PATCH, HOP, PEAK, EXCERPTS, EXCERPT_SECONDS,
)  # fmt: skip
"""Everything that decides a patch, for a fingerprint."""


def log_mel_patches(sound: Waveform) -> tuple[Float32[np.ndarray, "patches 96 64"], bool]:
    """Return the patches of a sound of any rate and length, and whether parts of it were left out.

    Shorter than one patch: padded with silence. Longer than two minutes: twelve evenly spread excerpts of ten seconds.
    Raises MediaError for a sound that is empty, silent, or not made of finite numbers.
    Source: the AudioSet YAMNet feature definition (Hann 25 ms / 10 ms, 64 HTK mels, log(mel + 0.001)).
    """
    gain = PEAK / _loudest(sound)
    excerpts = _excerpts(sound)
    patches = [_patches(_resampled(part, sound.rate) * gain) for part in excerpts]
    return np.concatenate(patches), len(excerpts) > 1


def _loudest(sound: Waveform) -> float:
    samples = sound.samples
    if len(samples) == 0 or sound.rate <= 0:
        raise MediaError(f"The sound is empty ({len(samples)} samples at {sound.rate} Hz).")
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite(high - low):
        raise MediaError("The sound has samples that are not finite numbers (NaN or infinity).")
    if high - low < 2 * SILENT:  # a constant offset is silence too
        raise MediaError(f"The sound is silent (peak {(high - low) / 2:.1e} of full scale, {SILENT:.0e} is needed).")
    return max(high, -low)


def _excerpts(sound: Waveform) -> list[Float32[np.ndarray, " n"]]:
    length = round(EXCERPT_SECONDS * sound.rate)
    if len(sound.samples) <= EXCERPTS * length:
        return [sound.samples]
    starts = np.linspace(0, len(sound.samples) - length, EXCERPTS).astype(int)
    return [sound.samples[start : start + length] for start in starts]


def _resampled(samples: Float32[np.ndarray, " n"], rate: int) -> Float32[np.ndarray, " m"]:
    # The resampler's kernel grows with both terms of the ratio: 44101 Hz taken literally would need gigabytes.
    ratio = Fraction(rate, RATE).limit_denominator(441)
    if ratio == 1:
        return samples
    import torch  # noqa: PLC0415

    return _resampler(ratio)(torch.from_numpy(samples)).numpy()


@lru_cache(maxsize=16)
def _resampler(ratio: Fraction) -> "Resample":
    """Return a resampler with its kernel, which takes as long to make as two seconds of sound to resample."""
    from torchaudio.transforms import Resample  # noqa: PLC0415

    return Resample(ratio.numerator, ratio.denominator)


def _patches(wave: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "patches 96 64"]:
    padded = np.pad(wave, (0, max(0, WINDOW - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::STEP] * _HANN
    spectrum = np.abs(np.fft.rfft(frames, FFT)).astype(np.float32)
    # Not a matrix product: its library would start threads of its own in each decoding thread, and most of it is zeros.
    mel = np.einsum("fbw,bw->fb", spectrum[:, _BINS], _WEIGHTS)
    log_mel = np.log(mel + np.float32(FLOOR))
    windows = np.lib.stride_tricks.sliding_window_view(log_mel, PATCH, axis=0)[::HOP]
    return np.ascontiguousarray(windows.transpose(0, 2, 1))


def _mel_filters() -> Float32[np.ndarray, "bins bands"]:
    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))

    bins = mel(np.linspace(0, RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    filters[0] = 0
    return filters.astype(np.float32)


def _bands(
    filters: Float32[np.ndarray, "bins bands"],
) -> tuple[Int[np.ndarray, "bands w"], Float32[np.ndarray, "bands w"]]:
    """Return the bins of each band and their weights, as many as the widest band has."""
    first = (filters > 0).argmax(axis=0)
    width = int((filters > 0).sum(axis=0).max())
    bins = np.minimum(first[:, None] + np.arange(width), len(filters) - 1)
    return bins, np.take_along_axis(filters.T, bins, axis=1)


_MEL = _mel_filters()
_BINS, _WEIGHTS = _bands(_MEL)
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)
