"""Sounds of every kind, and kinds of ruin."""

import http.server
import io
import struct
import threading

import av
import numpy as np
import pytest

from mmrec.decoding.decode import decode
from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.types import Modality


def _decode(data, limits=None):
    wave = decode(Modality.AUDIO, data, limits or Limits())
    assert wave.samples.dtype == np.float32
    assert wave.samples.ndim == 1
    assert np.abs(wave.samples).max() <= 1
    return wave


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_U8"),
        ("WAV", "FLOAT"),
        ("FLAC", None),
        ("OGG", "VORBIS"),
        ("MP3", None),
        ("AIFF", None),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_libsndfile_kinds(sound, tone, kind, subtype, rate, channels):
    samples = np.stack([tone(0.5, rate)] * channels, axis=1)
    wave = _decode(sound(samples, rate, kind, subtype))
    assert wave.rate == rate
    assert abs(wave.seconds - 0.5) < 0.1
    assert abs(np.abs(wave.samples).max() - 0.5) < 0.15


def test_opus(sound, tone):
    wave = _decode(sound(tone(0.5, 48_000), 48_000, "OGG", "OPUS"))
    assert (wave.rate, round(wave.seconds, 1)) == (48_000, 0.5)


@pytest.mark.parametrize("container", ["ipod", "adts", "matroska"])
def test_aac_through_ffmpeg(tone, container):
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream("aac", rate=22_050, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([tone(1, 22_050)] * 2), format="fltp", layout="stereo")
        frame.sample_rate = 22_050
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    wave = _decode(out.getvalue())
    assert wave.rate == 22_050
    assert abs(wave.seconds - 1) < 0.1
    assert abs(np.abs(wave.samples[4000:-4000]).max() - 0.5) < 0.1
    assert _decode(out.getvalue(), Limits(max_seconds=0.25)).seconds == pytest.approx(0.25, abs=1e-4)


def test_eight_channels_through_ffmpeg(tone):
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        stream = file.add_stream("pcm_s16le", rate=16_000, layout="7.1")
        samples = np.repeat((tone() * 32767).astype(np.int16), 8).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="7.1")
        frame.sample_rate = 16_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    np.testing.assert_allclose(_decode(out.getvalue()).samples, tone(), atol=1e-3)


def test_channels_are_averaged(sound, tone):
    wave = _decode(sound(np.stack([tone(), np.zeros_like(tone())], axis=1), subtype="FLOAT"))
    np.testing.assert_allclose(wave.samples, tone() / 2, atol=1e-6)


def test_loud_samples_are_scaled(sound, tone):
    wave = _decode(sound(tone() * 1000, subtype="FLOAT"))
    np.testing.assert_allclose(wave.samples, tone() / np.abs(tone()).max(), atol=1e-5)


def test_only_the_first_seconds_are_read(sound, tone):
    wave = _decode(sound(tone(3)), Limits(max_seconds=1.5))
    np.testing.assert_allclose(wave.samples, tone(3)[:24_000], atol=1e-4)


def _wav(seconds_claimed, samples=b"", channels=2, rate=44_100):
    header = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * 2 * channels & 0xFFFFFFFF, 2 * channels, 16)
    claimed = struct.pack("<I", min(seconds_claimed * rate * 2 * channels, 2**32 - 1))
    return b"RIFF\xff\xff\xff\x7fWAVEfmt " + header + b"data" + claimed + samples


def test_a_header_of_five_hours_allocates_nothing():
    with pytest.raises(MediaError, match="no samples"):
        _decode(_wav(18_000))
    assert len(_decode(_wav(18_000, b"\1\2" * 2000)).samples) == 1000
    assert len(_decode(_wav(18_000, b"\1\2" * 2048, channels=1024)).samples) == 2


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.array([0.1, np.nan, 0.2]), "not finite"),
        (np.array([0.1, np.inf, 0.2]), "not finite"),
        (np.zeros(0), "no samples"),
        (np.zeros(16_000), "silent"),
    ],
)
def test_samples_that_are_no_sound(sound, samples, reason):
    with pytest.raises(MediaError, match=reason):
        _decode(sound(samples, subtype="FLOAT"))


@pytest.mark.parametrize("rate", [1, 2_000_000])
def test_absurd_rates(rate):
    with pytest.raises(MediaError, match="sampling rate"):
        _decode(_wav(1, b"\1\2" * 100, 1, rate))


def test_a_video_without_sound():
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    with pytest.raises(MediaError, match="no audio in it"):
        _decode(out.getvalue())


def test_playlists_open_nothing(sound, tone, tmp_path):
    asked = []

    class _Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    (tmp_path / "a.wav").write_bytes(sound(tone()))
    with http.server.HTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        link = f"http://127.0.0.1:{server.server_port}/a.ts"
        for playlist in (
            f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{link}\n",
            f"ffconcat version 1.0\nfile '{link}'\n",
            f"ffconcat version 1.0\nfile '{tmp_path}/a.wav'\n",
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio {server.server_port} RTP/AVP 0\n",
        ):
            with pytest.raises(MediaError) as caught:
                _decode(playlist.encode())
            assert str(tmp_path) not in str(caught.value)
        server.shutdown()
    assert asked == []
