"""What encoders of sounds share: the check of a sound, a network's sampling rate, and what is heard of a long one."""

from fractions import Fraction

import numpy as np
from jaxtyping import Float32

from mmrec.errors import EncoderError, MediaError
from mmrec.types import Content, Modality, Waveform

__all__ = ["checked_sound", "resampled", "windows"]

SILENT = 1e-4  # peak below -80 dB of full scale


def checked_sound(who: str, modality: Modality, content: Content) -> Waveform:
    """Return a sound. Raises EncoderError for another kind of content, MediaError for silence or no finite numbers."""
    if modality is not Modality.AUDIO or not isinstance(content, Waveform):
        raise EncoderError(f"{who} reads sound, and was given {modality} ({type(content).__name__}).")
    samples = content.samples
    if len(samples) == 0 or content.rate <= 0:
        raise MediaError(f"The sound is empty ({len(samples)} samples at {content.rate} Hz).")
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite(high - low):
        raise MediaError("The sound has samples that are not finite numbers (NaN or infinity).")
    if high - low < 2 * SILENT:  # a constant offset is silence too
        raise MediaError(f"The sound is silent (peak {(high - low) / 2:.1e} of full scale, {SILENT:.0e} is needed).")
    return content


def resampled(sound: Waveform, rate: int) -> Float32[np.ndarray, " n"]:
    """Return the samples at another rate; the kernel is torchaudio's, a windowed sinc."""
    # The resampler's kernel grows with both terms of the ratio: 44101 Hz taken literally would need gigabytes.
    ratio = Fraction(sound.rate, rate).limit_denominator(441)
    if ratio == 1:
        return sound.samples
    import torch  # noqa: PLC0415
    from torchaudio.functional import resample  # noqa: PLC0415

    return resample(torch.from_numpy(sound.samples), ratio.numerator, ratio.denominator).numpy()


def windows(samples: Float32[np.ndarray, " n"], length: int, most: int) -> tuple[list[Float32[np.ndarray, " _"]], bool]:
    """Return what is heard of a sound, in windows of at most `length` samples, and whether parts are left out.

    A sound of up to `most` windows is cut into as many of one length, which overlap as little as they can; of a longer
    one that many are heard, evenly spread. Nothing is drawn at random.
    """
    if len(samples) <= length:
        return [samples], False
    count = min(most, -(-len(samples) // length))
    starts = np.linspace(0, len(samples) - length, count).round().astype(int).tolist()
    return [samples[start : start + length] for start in starts], len(samples) > most * length
