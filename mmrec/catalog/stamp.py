"""What tells that bytes have not changed, without reading them."""

import hashlib
from dataclasses import dataclass

__all__ = ["Reading", "Stamp", "stamp_of"]


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size and time of change of bytes that lie somewhere, as far as they are known.

    Attributes:
        size: In bytes.
        changed: Nanoseconds since 1970 for a file; elsewhere a number that stands for entity tag and time of change.

    """

    size: int | None
    changed: int | None

    def is_of(self, size: int | None, changed: int | None) -> bool:
        """Whether bytes of this stamp are those that were once read with such a size and such a change."""
        return self.changed is not None and self.changed == changed and self.size in {None, size}


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes, and the stamp they had when they were read; None where they have none of their own."""

    data: bytes
    stamp: Stamp | None


def stamp_of(size: int | None, *marks: str) -> Stamp:
    """Make a stamp from texts that change when the bytes do; without any, it equals no other."""
    if not any(marks):
        return Stamp(size, None)
    digest = hashlib.blake2b("\0".join(marks).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return Stamp(size, int.from_bytes(digest, "big") >> 1)
