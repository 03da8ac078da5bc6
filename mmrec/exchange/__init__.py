"""Vectors out of a store and into it, as files that other programs read."""
