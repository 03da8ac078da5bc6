"""Decode images: bytes to an upright RGB image; SVG is rendered without access to anything outside the drawing."""

import base64
import binascii
import io
from typing import Final
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

import numpy as np
import resvg_py
from PIL import Image, ImageFile, ImageOps

from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError

_DPI: Final = 96.0  # the renderer's own default of 0 refuses sizes given in points or millimetres
_MAX_BYTES: Final = 16 * 1024 * 1024
_RASTERS: Final = ("PNG", "JPEG", "GIF", "WEBP")


def looks_like_xml(data: bytes) -> bool:
    """Whether the bytes begin as markup does, in UTF-8 or UTF-16."""
    return data[:64].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<")


def render_svg(data: bytes, limits: Limits) -> bytes:
    """Return a PNG of the drawing on white, its longer side `limits.image_side` pixels. Raises MediaError."""
    if len(data) > _MAX_BYTES:
        raise MediaError(f"The SVG is larger than {_MAX_BYTES:,} bytes.")
    try:
        root = ET.fromstring(data)  # noqa: S314 - expat caps entity expansion and fetches nothing
    except (ET.ParseError, ValueError, LookupError) as error:
        raise MediaError("The image is markup, but not well-formed SVG.") from error
    if root.tag.rpartition("}")[2] != "svg":
        raise MediaError("The image is markup, but not SVG.")
    _cut_outward_references(root, limits)
    markup = ET.tostring(root, encoding="unicode")
    try:
        return resvg_py.svg_to_bytes(
            svg_string=markup,
            background="white",
            skip_system_fonts=True,
            width=limits.image_side,
            height=limits.image_side,
            dpi=_DPI,
        )
    except ValueError as error:
        raise MediaError("The SVG cannot be drawn: it has no size, or is too complex.") from error
    except BaseException as error:
        # The renderer's own crash is no Exception, and its class is known by name alone.
        if type(error).__name__ != "PanicException":
            raise
        raise MediaError("The SVG cannot be drawn.") from error


def _cut_outward_references(root: ET.Element, limits: Limits) -> None:
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name.rpartition("}")[2] == "href" and not _stays_inside(value.strip(), limits):
                del element.attrib[name]


def _stays_inside(reference: str, limits: Limits) -> bool:
    """Whether a reference is to the drawing itself, or an embedded image of a bearable size."""
    if reference.startswith("#"):
        return True
    head, _, body = reference.partition(",")
    if not head.lower().startswith("data:image/"):
        return False
    try:
        raster = base64.b64decode(body) if head.lower().endswith(";base64") else unquote_to_bytes(body)
        with Image.open(io.BytesIO(raster), formats=_RASTERS) as image:
            return image.width * image.height <= limits.max_pixels
    except (OSError, ValueError, binascii.Error, Image.DecompressionBombError):
        return False


# The rest of Pillow's formats run other programs (EPS), have no signature (TGA), or are not images of a catalog.
_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
_SHORTER_SIDE: Final = 512
_MAX_ASPECT: Final = 100


def decode_image(data: bytes, limits: Limits) -> Image.Image:
    """Decode an image of any common format, animated ones by their first frame, and SVG.

    Refused with MediaError: unknown formats, more pixels than `limits` allows, truncated files, and strips more than
    100 times as long as wide (60,000 x 1), of which an encoder's crop would show nothing.
    """
    if looks_like_xml(data):
        data = render_svg(data, limits)
    shorter = max(_SHORTER_SIDE, limits.image_side)
    image = _open(data)
    _check_size(image.width, image.height, limits)
    if image.format in {"JPEG", "MPO"}:
        image.draft(None, (shorter, shorter))
    image.load()
    return _shrunk(_on_white(_upright(_eight_bits(image))), shorter)


def _open(data: bytes) -> ImageFile.ImageFile:
    # Image.open would judge the size by a process-wide setting and warn from a decoding thread.
    Image.init()
    for name in _FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(data[:16]) is not True:
            continue
        try:
            return factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, KeyError, EOFError):
            continue
    raise MediaError("The image is of no known format (known: PNG, JPEG, GIF, WebP, AVIF, BMP, TIFF, PPM, SVG).")


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(f"The image has {width:,} x {height:,} pixels; the limit is {limits.max_pixels:,} in all.")
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise MediaError(f"The image is a strip of {width:,} x {height:,} pixels: nothing would be left to see.")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale deep grey to 8 bits; Pillow's own conversion clips it to white."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image, dtype=np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        values = (values - low) / ((high - low) or 1.0) * 255
    elif values.max() > 255:
        values = values / 257
    deep = Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8))
    deep.info = {"exif": image.info["exif"]} if "exif" in image.info else {}
    return deep


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a broken EXIF block must not cost the image
        return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _shrunk(image: Image.Image, shorter: int) -> Image.Image:
    factor = min(image.size) // shorter
    return image.reduce(factor) if factor > 1 else image
