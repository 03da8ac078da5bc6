"""Checks of what encoders are given (a text, an image or an audio clip that can be encoded), and resampling."""

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from mmrec.errors import EncoderError, MediaError
from mmrec.types import Content, Modality, Waveform

SILENT = 1e-4  # peak below -80 dB of full scale


def checked_text(who: str, modality: Modality, content: Content) -> str:
    """Return a text. Raises EncoderError for another content, MediaError for a blank text or invalid Unicode."""
    if modality is not Modality.TEXT or not isinstance(content, str):
        raise EncoderError(f"{who} reads text, and was given {modality} ({type(content).__name__}).")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise MediaError(f"The text is not valid Unicode: a lone surrogate at character {error.start}.") from error
    if not content.strip():
        raise MediaError(f"The text is empty or blank ({len(content)} characters).")
    return content


def checked_image(who: str, modality: Modality, content: Content) -> Image.Image:
    """Return an RGB image. Raises EncoderError for another content, MediaError for an image without a pixel."""
    if modality is not Modality.IMAGE or not isinstance(content, Image.Image):
        raise EncoderError(f"{who} reads images, and was given {modality} ({type(content).__name__}).")
    if 0 in content.size:
        raise MediaError(f"The image has no pixels ({content.width} x {content.height}).")
    return content.convert("RGB")


def checked_audio(who: str, modality: Modality, content: Content) -> Waveform:
    """Return an audio clip. Raises EncoderError for another content, MediaError for silence or NaN and infinity."""
    if modality is not Modality.AUDIO or not isinstance(content, Waveform):
        raise EncoderError(f"{who} reads audio, and was given {modality} ({type(content).__name__}).")
    samples = content.samples
    if len(samples) == 0 or content.rate <= 0:
        raise MediaError(f"The audio is empty ({len(samples)} samples at {content.rate} Hz).")
    low, high = float(samples.min()), float(samples.max())
    if not np.isfinite(high - low):
        raise MediaError("The audio has samples that are not finite numbers (NaN or infinity).")
    if high - low < 2 * SILENT:  # a constant offset is silence too
        raise MediaError(f"The audio is silent (peak {(high - low) / 2:.1e} of full scale, {SILENT:.0e} is needed).")
    return content


def resampled(samples: Float32[np.ndarray, " n"], rate: int, wanted: int) -> Float32[np.ndarray, " m"]:
    """Return samples at another rate; the kernel is torchaudio's, a windowed sinc."""
    # The kernel grows with both terms of the ratio: 44101 Hz taken literally would need gigabytes.
    ratio = Fraction(rate, wanted).limit_denominator(441)
    if ratio == 1:
        return samples
    import torch  # noqa: PLC0415 (takes seconds)

    made: np.ndarray = _resampler(ratio)(torch.from_numpy(samples)).numpy()
    return made


@lru_cache(maxsize=16)
def _resampler(ratio: Fraction) -> Any:  # noqa: ANN401 - a type that takes seconds to import
    """A resampler with its kernel, which takes as long to make as two seconds of audio to resample."""
    from torchaudio.transforms import Resample  # noqa: PLC0415

    return Resample(ratio.numerator, ratio.denominator)
