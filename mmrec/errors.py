"""All errors that mmrec raises on purpose: subclasses of MmrecError.

Each message says what was given, what is allowed, and what to do next.
"""


class MmrecError(Exception):
    """Base of all errors that mmrec raises on purpose."""


class UsageError(MmrecError):
    """The call is wrong; nothing was done."""


class UnknownIdError(UsageError):
    """No item has the given id."""


class SpaceMismatchError(UsageError):
    """Vectors of two incompatible spaces were about to be compared."""


class MediaError(MmrecError):
    """One content cannot be read or decoded; the message is its reason in quarantine. The item is kept without it."""


class DecoderLostError(MediaError):
    """The process that decoded one content was killed from outside; another run may succeed."""


class DecodingError(MmrecError):
    """No process that decodes images and audio can be started."""


class UnreachableError(MediaError):
    """One content cannot be had now; another run may succeed."""


class SourceError(MmrecError):
    """A catalog could not be read to its end; what was done until then is kept."""


class EncoderError(MmrecError):
    """An encoder cannot be loaded, or its weight file is not the pinned one."""


class StoreError(MmrecError):
    """The store is missing, damaged, or of another format version."""


class MissingStoreError(StoreError, UsageError):
    """There is no store where one was named."""


class StoreBusyError(StoreError):
    """Another process held the commit lock for longer than the wait."""


class LinkError(StoreError):
    """A link or special file lies where only regular files and directories may; nothing was done."""


class DamagedError(StoreError):
    """A file of the store is missing, cannot be parsed, or is not what was written; `what` leaves out the advice."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what


class UnreadableError(StoreError):
    """A file of the store cannot be read now, for lack of permission, memory or file handles; nothing is damaged."""
