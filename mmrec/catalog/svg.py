"""SVG to PNG, looking at nothing outside the drawing itself.

The renderer opens any path that a drawing names, so every reference that leaves the drawing is taken out first. Fonts
of the machine are not used either: a drawing gives the same pixels everywhere, and its text elements none.
"""

import base64
import binascii
import io
from typing import Final
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

import resvg_py
from PIL import Image

from mmrec.catalog.limits import Limits
from mmrec.errors import MediaError

__all__ = ["looks_like_xml", "render_svg"]

_DPI: Final = 96.0  # the renderer's own default of 0 refuses sizes given in points or millimetres
_MAX_BYTES: Final = 16 * 1024 * 1024
_RASTERS: Final = ("PNG", "JPEG", "GIF", "WEBP")


def looks_like_xml(data: bytes) -> bool:
    """Whether the bytes begin as markup does, in UTF-8 or UTF-16."""
    return data[:64].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<")


def render_svg(data: bytes, limits: Limits) -> bytes:
    """Return a PNG of the drawing on white, its longer side `limits.picture_side` pixels. Raises MediaError."""
    if len(data) > _MAX_BYTES:
        raise MediaError(f"The SVG is larger than {_MAX_BYTES:,} bytes.")
    try:
        root = ET.fromstring(data)  # noqa: S314 - expat caps entity expansion and fetches nothing
    except (ET.ParseError, ValueError, LookupError) as error:
        raise MediaError("The picture is markup, but not well-formed SVG.") from error
    if root.tag.rpartition("}")[2] != "svg":
        raise MediaError("The picture is markup, but not SVG.")
    _cut_outward_references(root, limits)
    markup = ET.tostring(root, encoding="unicode")
    try:
        return resvg_py.svg_to_bytes(
            svg_string=markup,
            background="white",
            skip_system_fonts=True,
            width=limits.picture_side,
            height=limits.picture_side,
            dpi=_DPI,
        )
    except ValueError as error:
        raise MediaError("The SVG cannot be drawn: it has no size, or is too complex.") from error
    except BaseException as error:
        # The renderer's own crash is no Exception, and its class can be told by name alone.
        if type(error).__name__ != "PanicException":
            raise
        raise MediaError("The SVG cannot be drawn.") from error


def _cut_outward_references(root: ET.Element, limits: Limits) -> None:
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name.rpartition("}")[2] == "href" and not _stays_inside(value.strip(), limits):
                del element.attrib[name]


def _stays_inside(reference: str, limits: Limits) -> bool:
    """Whether a reference is to the drawing itself, or an embedded picture of a bearable size."""
    if reference.startswith("#"):
        return True
    head, _, body = reference.partition(",")
    if not head.lower().startswith("data:image/"):
        return False
    try:
        raster = base64.b64decode(body) if head.lower().endswith(";base64") else unquote_to_bytes(body)
        with Image.open(io.BytesIO(raster), formats=_RASTERS) as picture:
            return picture.width * picture.height <= limits.max_pixels
    except (OSError, ValueError, binascii.Error, Image.DecompressionBombError):
        return False
