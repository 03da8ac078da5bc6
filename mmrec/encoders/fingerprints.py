"""The digest that says what decided a vector."""

import hashlib
import json

__all__ = ["fingerprint"]


def fingerprint(**parts: object) -> str:
    """Return the hex SHA-256 over named parts: numbers, strings, and sequences and mappings of them, in any order."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
