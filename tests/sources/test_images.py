"""Pictures of every kind, and kinds of ruin."""

import base64
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmrec.decoding.decode import decode
from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.types import Modality

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
SVG = f'<svg {NAMESPACES} width="100" height="50">{{}}</svg>'


def _decode(data, limits=None):
    picture = decode(Modality.IMAGE, data, limits or Limits())
    assert picture.mode == "RGB"
    return picture


def _middle(picture):
    return picture.getpixel((picture.width // 2, picture.height // 2))


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "expected"),
    [
        ("RGB", (255, 0, 0), "PNG", (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), "PNG", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), "PNG", (127, 127, 127)),
        ("LA", (0, 0), "PNG", (255, 255, 255)),
        ("L", 100, "PNG", (100, 100, 100)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (254, 0, 0)),
        ("I;16", 32896, "PNG", (128, 128, 128)),
        ("I", 200, "TIFF", (200, 200, 200)),
        ("RGB", (0, 0, 255), "GIF", (0, 0, 255)),
        ("RGB", (0, 0, 255), "BMP", (0, 0, 255)),
        ("RGBA", (0, 0, 255, 0), "WEBP", (255, 255, 255)),
    ],
)
def test_modes_and_formats(encoded, mode, colour, kind, expected):
    got = _middle(_decode(encoded(Image.new(mode, (40, 30), colour), kind)))
    assert np.abs(np.subtract(got, expected)).max() <= 1


def test_palette_with_transparency(encoded):
    image = Image.new("P", (40, 30), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert _middle(_decode(encoded(image, "PNG"))) == (255, 0, 0)
    assert _middle(_decode(encoded(image, "PNG", transparency=1))) == (255, 255, 255)


def test_deep_grey_keeps_its_shades(encoded):
    ramp = np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40)
    got = np.asarray(_decode(encoded(Image.fromarray(ramp), "PNG")))[..., 0]
    assert np.abs(got - ramp / 257).max() <= 0.5


@pytest.mark.parametrize("size", [(40, 30), (2000, 1500)])
def test_exif_rotation(encoded, size):
    image = Image.new("RGB", size, "red")
    image.paste("blue", (0, 0, size[0], size[1] // 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = _decode(encoded(image, "JPEG", exif=exif))
    assert upright.width < upright.height
    assert upright.getpixel((upright.width - 3, upright.height // 2))[2] > 200
    assert upright.getpixel((3, upright.height // 2))[0] > 200


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_does_not_cost_the_picture(encoded):
    data = encoded(Image.new("RGB", (40, 30)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert _decode(data).size == (40, 30)


def test_first_frame_of_an_animation(encoded):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        got = _middle(_decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:])))
        assert np.abs(np.subtract(got, (255, 0, 0))).max() <= 3


@pytest.mark.parametrize(("kind", "size"), [("JPEG", (800, 600)), ("PNG", (800, 600))])
def test_large_pictures_come_out_smaller(encoded, kind, size):
    assert _decode(encoded(Image.new("RGB", (1600, 1200)), kind)).size == size


def _png_header(width, height):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_png_header(60_000, 60_000), "60,000 x 60,000 pixels; the limit"),
        (_png_header(2**31 - 1, 2**31 - 1), "limit"),
        (_png_header(60_000, 1), "strip"),
        (b"just some words", "no known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no known format"),
        (b"<html><body/></html>", "not SVG"),
        (b"<svg><g></svg>", "not well-formed"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0"/>', "cannot be drawn"),
        (b"", "empty"),
    ],
)
def test_refusals(data, reason):
    with pytest.raises(MediaError, match=reason):
        _decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_truncated(encoded, kind):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(MediaError) as caught:
        _decode(data[: len(data) // 2])
    assert "0x" not in str(caught.value)


def test_limits(png):
    with pytest.raises(MediaError, match="limit of 10 bytes"):
        _decode(png(), Limits(max_bytes=10))
    with pytest.raises(MediaError, match="limit is 100 in all"):
        _decode(png(), Limits(max_pixels=100))


def test_limits_above_the_process_wide_one(encoded, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert _decode(encoded(Image.new("RGB", (200, 100)), "PNG")).size == (200, 100)


def test_svg_on_white_at_384():
    picture = _decode(SVG.format('<rect width="50" height="50" fill="blue"/>').encode())
    assert picture.size == (384, 192)
    assert picture.getpixel((5, 128)) == (0, 0, 255)
    assert picture.getpixel((370, 128)) == (255, 255, 255)


@pytest.mark.parametrize("unit", ["", "pt", "mm", "in"])
def test_svg_units(unit):
    assert _decode(f'<svg xmlns="http://www.w3.org/2000/svg" width="9{unit}" height="9{unit}"/>'.encode()).size == (
        384,
        384,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_svg_encodings(encoding):
    assert _decode(("<!-- 猫 -->" + SVG.format("")).encode(encoding)).size == (384, 192)


@pytest.mark.parametrize("tag", ["image", "feImage", "nested", "entity", "css"])
def test_svg_looks_at_no_file(png, tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.png"
    secret.write_bytes(png("red", size=(100, 100)))
    for reference in (str(secret), "secret.png", secret.as_uri(), f" {secret}"):
        image = f'<image xlink:href="{reference}" width="100" height="50"/>'
        inner = base64.b64encode(SVG.format(image).encode()).decode()
        drawing = {
            "image": SVG.format(image),
            "feImage": SVG.format(
                f'<filter id="f"><feImage href="{reference}"/></filter><rect width="99" height="49" filter="url(#f)"/>'
            ),
            "nested": SVG.format(f'<image href="data:image/svg+xml;base64,{inner}" width="100" height="50"/>'),
            "entity": f'<!DOCTYPE svg [<!ENTITY e "{reference}">]>'
            + SVG.format('<image href="&e;" width="100" height="50"/>'),
            "css": SVG.format(f'<rect width="99" height="49" style="fill:url({reference}) white"/>'),
        }[tag]
        pixels = np.asarray(_decode(drawing.encode()))
        assert not (pixels == (255, 0, 0)).all(axis=-1).any()


def test_svg_external_entity_is_not_read(tmp_path):
    (tmp_path / "secret.txt").write_text("<rect width='99' height='49' fill='red'/>")
    drawing = f'<!DOCTYPE svg [<!ENTITY e SYSTEM "{(tmp_path / "secret.txt").as_uri()}">]>' + SVG.format("&e;")
    with pytest.raises(MediaError, match="not well-formed"):
        _decode(drawing.encode())


def test_svg_embedded_picture_is_drawn_unless_it_is_a_bomb(png):
    def drawing(data):
        body = base64.b64encode(data).decode()
        return SVG.format(f'<image xlink:href="data:image/png;base64,{body}" width="100" height="50"/>').encode()

    assert _middle(_decode(drawing(png("red")))) == (255, 0, 0)
    assert _middle(_decode(drawing(_png_header(60_000, 60_000)))) == (255, 255, 255)


def test_svg_bombs_are_refused():
    laughs = '<!DOCTYPE svg [<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)
    )
    with pytest.raises(MediaError):
        _decode((laughs + "]>" + SVG.format("<text>&a9;</text>")).encode())
    uses = "".join(f'<g id="l{n}">{f"""<use xlink:href="#l{n - 1}"/>""" * 10}</g>' for n in range(1, 9))
    with pytest.raises(MediaError):
        _decode(SVG.format(f'<defs><g id="l0"><rect width="1" height="1"/></g>{uses}</defs><use href="#l8"/>').encode())
