"""Which family a FAISS index belongs to: those of `indexers/families`."""

import pkgutil
from functools import cache
from importlib import import_module

import indexers.families
from indexers.faiss_module import Native
from indexers.family import Family

__all__ = ["families", "family_of"]


@cache
def families() -> tuple[Family, ...]:
    """Return all families, by the names of their files."""
    names = sorted(module.name for module in pkgutil.iter_modules(indexers.families.__path__))
    return tuple(import_module(f"indexers.families.{name}").FAMILY for name in names)


def family_of(index: Native) -> Family | None:
    """Return the family of a FAISS index; None where it has none here."""
    return next((family for family in families() if family.takes(index)), None)
