"""Catalogs: sources to items, and what their contents are."""
