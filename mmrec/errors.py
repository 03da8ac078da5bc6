"""Every error mmrec raises on purpose, one tree.

MmrecError
├── UsageError             the call itself is wrong: a flag, a column, a query
│   ├── UnknownIdError     no item of that id
│   └── SpaceMismatchError vectors of two spaces were about to be compared
├── MediaError             one content cannot be read or decoded; the item lives on without it
│   ├── DecoderLostError   the process that decoded it was killed from outside; another run may have more luck
│   └── UnreachableError   it cannot be had now, but perhaps another time
├── SourceError            a catalog could not be read to its end; what was done is kept
├── DecodingError          no process that decodes can be started
├── EncoderError           an encoder cannot be loaded, or its weight file is not the pinned one
└── StoreError             the store is missing, broken, or of another version
    ├── MissingStoreError  there is no store of that name; a UsageError too, as an unknown id is
    ├── StoreBusyError     another process holds the commit lock
    ├── LinkError          a link or special file lies in the store; nothing is read or written through it
    ├── DamagedError       a file of the store is not what was written, or is missing
    └── UnreadableError    a file cannot be read now, for lack of permission or memory: that is no damage

Each message says what was given, what is allowed, and what to do next.
"""


class MmrecError(Exception):
    """Base of all errors that mmrec raises on purpose."""


class UsageError(MmrecError):
    """The call is wrong; nothing was done."""


class UnknownIdError(UsageError):
    """No item has the given id."""


class SpaceMismatchError(UsageError):
    """Vectors of two spaces that cannot be compared met."""


class MediaError(MmrecError):
    """One content cannot be read or decoded; its message is the reason that quarantine keeps."""


class DecoderLostError(MediaError):
    """The process that decoded one content was killed from outside; another run may have more luck."""


class DecodingError(MmrecError):
    """No process that decodes pictures and sounds can be started."""


class UnreachableError(MediaError):
    """One content cannot be had now; another run may have more luck."""


class SourceError(MmrecError):
    """A catalog could not be read to its end; what was done until then is kept."""


class EncoderError(MmrecError):
    """An encoder cannot be loaded or refuses what it found."""


class StoreError(MmrecError):
    """The store is missing, damaged, or of another format version."""


class MissingStoreError(StoreError, UsageError):
    """There is no store where one was named."""


class StoreBusyError(StoreError):
    """Another process held the commit lock for longer than the wait."""


class LinkError(StoreError):
    """A link or special file lies where only regular files and directories may; nothing was done."""


class DamagedError(StoreError):
    """A file of the store is missing, cannot be parsed, or is not what was written.

    Attributes:
        what: What is wrong, without the commands that repair it.

    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what


class UnreadableError(StoreError):
    """A file of the store cannot be read now, for lack of permission, memory or file handles; nothing is damaged."""
