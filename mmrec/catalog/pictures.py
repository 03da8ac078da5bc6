"""Bytes to an upright RGB picture.

A picture whose shorter side is 1,024 pixels or more comes out at a reduced scale, its shorter side still 512 or more
(`Limits.picture_side` may ask for larger): encoders look at about 224, and decoding a large JPEG in full costs most of
the time. Transparent parts are white.
"""

import io
from typing import Final

import numpy as np
from PIL import Image, ImageFile, ImageOps

from mmrec.catalog.limits import Limits
from mmrec.catalog.svg import looks_like_xml, render_svg
from mmrec.errors import MediaError

__all__ = ["decode_picture"]

# The rest of Pillow's formats run other programs (EPS), have no signature (TGA), or are not pictures of a catalog.
_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
_SHORTER_SIDE: Final = 512
_MAX_ASPECT: Final = 100


def decode_picture(data: bytes, limits: Limits) -> Image.Image:
    """Decode a picture of any common format, animated ones by their first frame, and SVG.

    Refused with MediaError: unknown formats, more pixels than `limits` allows, truncated files, and strips more than
    100 times as long as wide (60,000 x 1), of which an encoder's crop would show nothing.
    """
    if looks_like_xml(data):
        data = render_svg(data, limits)
    shorter = max(_SHORTER_SIDE, limits.picture_side)
    picture = _open(data)
    _check_size(picture.width, picture.height, limits)
    if picture.format in {"JPEG", "MPO"}:
        picture.draft(None, (shorter, shorter))
    picture.load()
    return _shrunk(_on_white(_upright(_eight_bits(picture))), shorter)


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
    raise MediaError("The picture is of no known format (known: PNG, JPEG, GIF, WebP, AVIF, BMP, TIFF, PPM, SVG).")


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(f"The picture has {width:,} x {height:,} pixels; the limit is {limits.max_pixels:,} in all.")
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise MediaError(f"The picture is a strip of {width:,} x {height:,} pixels: nothing would be left to see.")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale deep grey to 8 bits; Pillow's own conversion clips it to white."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture, dtype=np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if picture.mode == "F":
        low, high = float(values.min()), float(values.max())
        values = (values - low) / ((high - low) or 1.0) * 255
    elif values.max() > 255:
        values = values / 257
    deep = Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8))
    deep.info = {"exif": picture.info["exif"]} if "exif" in picture.info else {}
    return deep


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # noqa: BLE001 - a broken EXIF block must not cost the picture
        return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def _shrunk(picture: Image.Image, shorter: int) -> Image.Image:
    factor = min(picture.size) // shorter
    return picture.reduce(factor) if factor > 1 else picture
