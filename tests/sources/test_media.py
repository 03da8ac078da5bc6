"""Bytes, hashes, and the law: any bytes whatsoever give content or a MediaError."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmrec.decoding.decode import decode
from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.sources.media_access import MediaAccess, content_hash
from mmrec.sources.storage import Stamp
from mmrec.types import Field, Modality, Waveform

_STARTS = [
    *(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8 ", b"II*\0", b"MM\0*"),
    *(b"P6 3 3 255\n", b"P7\n", b"BM", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'>", b"<?xml"),
    *(b"\0\0\0\x20ftypavif", b"\0\0\0\x0cjP  \r\n\x87\n", b"RIFF\x40\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0"),
    *(b"fLaC\0\0\0\x22", b"OggS\0\2", b"ID3\4", b"\xff\xfb\x90\x64", b"FORM\0\0\0\x40AIFF", b".snd"),
    *(b"\0\0\0\x20ftypM4A ", b"\x1aE\xdf\xa3", b"\xff\xf1\x50\x80", b"\xff\xfe", b""),
]


def _check(modality, data):
    reason = "."
    try:
        content = decode(modality, data, Limits(max_pixels=1_000_000, max_seconds=5))
    except MediaError as error:
        reason = str(error)
    else:
        kinds = {Modality.TEXT: str, Modality.IMAGE: Image.Image, Modality.AUDIO: Waveform}
        assert isinstance(content, kinds[modality])
    assert reason.endswith(".")
    assert len(reason) < 250


@settings(max_examples=300, deadline=None)
@given(modality=st.sampled_from(Modality), start=st.sampled_from(_STARTS), rest=st.binary(max_size=300))
def test_any_bytes_give_content_or_a_media_error(modality, start, rest):
    _check(modality, start + rest)


@pytest.fixture(scope="session")
def real_bytes():
    from io import BytesIO

    import soundfile

    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    made = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "JPEG2000"):
        out = BytesIO()
        Image.fromarray(noise).save(out, kind)
        made.append((Modality.IMAGE, out.getvalue()))
    for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
        out = BytesIO()
        soundfile.write(out, noise.ravel() / 255, 16_000, format=kind)
        made.append((Modality.AUDIO, out.getvalue()))
    return made


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_any_change_to_real_files_gives_content_or_a_media_error(real_bytes, draw):
    modality, data = draw.draw(st.sampled_from(real_bytes))
    changed = bytearray(data[: draw.draw(st.integers(1, len(data)))])
    for _ in range(draw.draw(st.integers(0, 4))):
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    _check(modality, bytes(changed))


def test_text():
    assert decode(Modality.TEXT, "\ufeff猫".encode()) == "猫"
    assert decode(Modality.TEXT, "猫".encode("utf-16")) == "猫"
    assert decode(Modality.TEXT, b"abcdef", Limits(max_text_chars=3)) == "abc"
    for data, reason in ((b"caf\xe9", "UTF-8"), (b" \n ", "blank"), (b"", "empty")):
        with pytest.raises(MediaError, match=reason):
            decode(Modality.TEXT, data)


def test_hash_is_of_the_bytes_alone():
    assert len(content_hash(b"x")) == 16
    assert content_hash(b"x") == content_hash(b"x") != content_hash(b"y")


def test_bytes_of_each_kind_of_field(tmp_path):
    path = tmp_path / "猫.png"
    path.write_bytes(b"abc")
    assert MediaAccess().read(Field(Modality.TEXT, "t", text="猫")) == "猫".encode()
    assert MediaAccess().read(Field(Modality.IMAGE, "i", uri=str(path))) == b"abc"
    assert MediaAccess().read(Field(Modality.IMAGE, "i", uri="gone", data=b"xyz")) == b"xyz"
    assert MediaAccess().read(str(path)) == b"abc"
    for content in (str(path), Field(Modality.IMAGE, "i", data=b"abc"), Field(Modality.TEXT, "t", text="abc")):
        with pytest.raises(MediaError, match="limit of 2 bytes"):
            MediaAccess(Limits(max_bytes=2)).read(content)


def test_stat(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"abc")
    assert MediaAccess().stat(str(path)) == Stamp(3, path.stat().st_mtime_ns)
    assert MediaAccess().stat(str(tmp_path / "gone")) is None
    assert MediaAccess().stat(str(tmp_path)) is None
    assert MediaAccess().stat(f"{path}#row=1&column=a") is None
    assert MediaAccess().stat("a\0b") is None


def test_files_that_cannot_be_read_tell_no_path(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "gone"), str(tmp_path), str(tmp_path / "pipe"), "/dev/zero", "a\0b", "x" * 5000):
        with pytest.raises(MediaError) as caught:
            MediaAccess().read(name)
        assert str(tmp_path) not in str(caught.value)
