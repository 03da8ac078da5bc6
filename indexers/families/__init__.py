"""Families of FAISS recipes. All `Family` classes in these files are used."""
