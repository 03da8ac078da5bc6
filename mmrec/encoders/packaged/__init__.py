"""Encoders whose weights ship inside installed packages: no model hub, no network."""
