"""Families of FAISS recipes, a file each. A file put here is found: it defines FAMILY."""
