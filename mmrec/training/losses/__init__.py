"""Losses: a file each."""
