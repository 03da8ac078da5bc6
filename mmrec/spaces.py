"""Where vectors are comparable."""

from dataclasses import dataclass

__all__ = ["Space"]


@dataclass(frozen=True, slots=True)
class Space:
    """A vector space made by one encoder from one kind of content.

    Attributes:
        name: Short name, unique in a store; also the name of its vector table (lower case, digits, ``-``).
        dim: Length of a vector.
        fingerprint: Hex digest over everything that decides a vector: weights, preprocessing, pooling, code version.
        approximates: Fingerprint of the space these vectors are a stand-in for, if any. A picture bridged through its
            labels into the text space approximates that space: text queries may be compared with it.

    """

    name: str
    dim: int
    fingerprint: str
    approximates: str | None = None

    @property
    def meeting_place(self) -> str:
        """Fingerprint under which spaces may be compared with each other."""
        return self.approximates or self.fingerprint
