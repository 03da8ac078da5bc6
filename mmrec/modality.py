"""The kinds of content an item can carry."""

from enum import StrEnum

__all__ = ["Modality"]


class Modality(StrEnum):
    """Text, image or audio. Always named by the caller, never guessed from a value."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
