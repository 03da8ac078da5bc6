"""Families of FAISS recipes. All `Family` values in these files are used."""
