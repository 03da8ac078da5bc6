"""Fusion: per-space vectors -> one item vector."""
