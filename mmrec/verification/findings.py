"""The findings of a verification."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mmrec.errors import DamagedError, MmrecError, UnreadableError
from mmrec.storage.damage import convert_read_errors


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect of a store.

    `check` is the kind of check: store, checksum, manifest, count, fingerprint, pairing, content, vectors, ids, recall
    or events. `where` is relative to the store, `what` a sentence, `run` the commands that repair it, in order.
    """

    check: str
    where: str
    what: str
    run: tuple[str, ...]


@dataclass
class VerificationReport:
    """Result of a verification.

    Attributes:
        root: The store.
        findings: Its defects; empty where the store is sound.
        checked: Number of checks of each kind, and measurements.
        notes: Remarks that are no defects.
        unpublished: Message about a store without a published generation; empty for all others.
        seconds: How long it took.

    """

    root: Path
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unpublished: str = ""
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether there is no defect."""
        return not self.findings

    @property
    def commands(self) -> list[str]:
        """The commands that repair everything, each once, in the order to run them."""
        named = list(dict.fromkeys(command for finding in self.findings for command in finding.run))
        order = ("mmrec repair", "mmrec delete", "mmrec index", "mmrec reindex", "mmrec gc")
        return sorted(named, key=lambda command: [command.startswith(verb) for verb in order].index(True))

    def add(self, check: str, where: Path, what: str, *commands: str) -> None:
        """Add a defect; it is repaired by `commands`, by default ``mmrec repair``."""
        inside = where.relative_to(self.root) if where.is_relative_to(self.root) else where
        run = commands or (self.repair,)
        self.findings.append(Finding(check, str(inside), what, run))

    @contextmanager
    def guarded(self, check: str, where: Path, *commands: str) -> Iterator[None]:
        """Report errors in the block as defects, except UnreadableError, which is no damage."""
        try:
            with convert_read_errors(where):
                yield
        except UnreadableError:
            raise
        except MmrecError as error:
            self.add(check, where, error.what if isinstance(error, DamagedError) else str(error), *commands)

    @property
    def repair(self) -> str:
        """The command that repairs damaged files."""
        return f"mmrec repair {self.root}"

    @property
    def index(self) -> str:
        """The command that encodes contents without a vector."""
        return f"mmrec index SOURCE {self.root}"
