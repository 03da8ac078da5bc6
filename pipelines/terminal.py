r"""Text on its way to a terminal: nothing that a catalog, a file name or an error holds may drive it or hide from view.

Control characters move the cursor, set the title or the clipboard; bidirectional overrides reorder what is read;
zero-width and tag characters make two different ids look the same. They are shown as escapes: ``\x1b``, ``\u202e``.
JSON output is as it was: there, escapes are part of the format.
"""

import re
from collections.abc import Iterable
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

__all__ = ["Terminal", "clean", "escaped"]

_ARABIC_OR_INDIC: Final = "\u0600-\u06ff\u0750-\u077f\u0900-\u0dff"
_EMOJI: Final = "\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
# Persian and Indian words are spelled with joiners, and emoji are put together with them.
_JOINER: Final = re.compile(f"(?<=[{_ARABIC_OR_INDIC}{_EMOJI}])[\u200c\u200d](?=[{_ARABIC_OR_INDIC}{_EMOJI}])")
_HIDDEN: Final = (
    "\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_HIDING: Final = re.compile(f"[{_HIDDEN}]")
_SPACE: Final = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_LIKE_AN_ESCAPE: Final = re.compile(rf"\\+(?=x[0-9a-f]{{2}}|u[0-9a-f]{{4}}|U[0-9a-f]{{8}}|[{_HIDDEN}])")


def clean(value: object) -> str:
    """One line of text that is safe to print: line breaks become a space, what hides or drives becomes an escape."""
    if value is None:
        return ""
    text = str(value)
    return text if text.isprintable() else _shown(_SPACE.sub(" ", text))


def escaped(value: object) -> str:
    """An id as it is shown: safe to print, and two that differ are shown differently."""
    text = "" if value is None else str(value)
    if "\\" in text:
        text = _LIKE_AN_ESCAPE.sub(lambda found: found[0] * 2, text)
    return text if text.isprintable() else _HIDING.sub(_escape, text)


class Terminal(Console):
    """A console through which no character passes that hides or drives, whatever is printed and whoever prints it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render what is printed; escapes of its own styles are no part of the texts and stay."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(_shown, segment.text.split("\n"))), segment.style)


def _shown(text: str) -> str:
    """Escape what hides or drives, but for joiners where words and emoji need them."""
    kept = {found.start() for found in _JOINER.finditer(text)}
    return _HIDING.sub(lambda found: found[0] if found.start() in kept else _escape(found), text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"
