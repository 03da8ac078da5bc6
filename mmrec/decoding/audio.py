"""Decode audio: bytes to a mono waveform at the file's own sample rate."""

import io
import itertools
from collections.abc import Iterator
from typing import Final

import av
import numpy as np
import soundfile
from jaxtyping import Float32

from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.types import Waveform

_BLOCK: Final = 16_384
_RATES: Final = range(1_000, 768_001)
# Playlists and manifests are "containers" to FFmpeg, and would make it open files and addresses that they name.
_CONTAINERS: Final = (
    "aac,ac3,aiff,amr,amrnb,amrwb,asf,avi,caf,eac3,flac,matroska,webm,mov,mp4,mp3,mpegts,ogg,tta,wav,wv"
)


def decode_audio(data: bytes, limits: Limits) -> Waveform:
    """Decode the first `limits.max_seconds` of an audio clip; channels are averaged, peaks above 1 scaled down.

    Refused with MediaError: unknown formats, no samples, samples that are not numbers, and silence.
    """
    try:
        rate, samples = _with_libsndfile(data, limits)
    except soundfile.LibsndfileError:
        rate, samples = _with_ffmpeg(data, limits)
    if not len(samples):
        raise MediaError("The audio has no samples.")
    if not np.isfinite(samples).all():
        raise MediaError("The audio has samples that are not finite numbers.")
    peak = float(np.abs(samples).max())
    if peak == 0:
        raise MediaError("The audio is silent: every sample is zero.")
    return Waveform(samples / np.float32(peak) if peak > 1 else samples, rate)


class _Bytes(io.BytesIO):
    """A file whose seeks never raise: an exception cannot pass through the C library that calls them."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}.get(whence, 0)
        return super().seek(min(max(base + offset, 0), self.getbuffer().nbytes))


def _with_libsndfile(data: bytes, limits: Limits) -> tuple[int, Float32[np.ndarray, " n"]]:
    with soundfile.SoundFile(_Bytes(data)) as file:
        return file.samplerate, _first_seconds(_libsndfile_blocks(file), file.samplerate, limits)


def _libsndfile_blocks(file: soundfile.SoundFile) -> Iterator[Float32[np.ndarray, "channels n"]]:
    length = max(_BLOCK // file.channels, 1)
    while len(block := file.read(length, dtype="float32", always_2d=True)):
        yield block.T


def _with_ffmpeg(data: bytes, limits: Limits) -> tuple[int, Float32[np.ndarray, " n"]]:
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    try:
        with av.open(io.BytesIO(data), "r", container_options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise MediaError("The file has no audio in it.")
            codec = container.streams.audio[0].codec_context
            if codec is None:
                raise MediaError("The audio is in a coding that no decoder here knows.")
            rate = int(codec.sample_rate or 0)
            return rate, _first_seconds(_ffmpeg_blocks(container, rate), rate, limits)
    except av.FFmpegError as error:
        raise MediaError("The audio is damaged, or of no known format.") from error


def _ffmpeg_blocks(container: av.container.InputContainer, rate: int) -> Iterator[Float32[np.ndarray, "channels n"]]:
    # Interleaved: PyAV (18.1) reads past the end of a frame that has eight or more planes.
    resampler = av.AudioResampler(format="flt", rate=rate)
    for frame in itertools.chain(container.decode(audio=0), [None]):
        for block in resampler.resample(frame):
            yield block.to_ndarray().reshape(-1, block.layout.nb_channels).T


def _first_seconds(
    blocks: Iterator[Float32[np.ndarray, "channels n"]], rate: int, limits: Limits
) -> Float32[np.ndarray, " n"]:
    if rate not in _RATES:
        raise MediaError(f"The audio has a sampling rate of {rate:,} Hz; allowed are {_RATES[0]:,} to {_RATES[-1]:,}.")
    wanted = int(limits.max_seconds * rate)
    parts: list[Float32[np.ndarray, " n"]] = []
    have = 0
    for block in blocks:
        with np.errstate(over="ignore", invalid="ignore"):
            parts.append(_mono(block))
        have += block.shape[1]
        if have >= wanted:
            break
    return np.concatenate(parts)[:wanted] if parts else np.zeros(0, np.float32)


def _mono(block: Float32[np.ndarray, "channels n"]) -> Float32[np.ndarray, " n"]:
    """Average the channels; as a product: numpy's mean over interleaved channels takes fifty times as long."""
    channels = len(block)
    return np.full(channels, np.float32(1) / channels, np.float32) @ block if channels > 1 else block[0]
