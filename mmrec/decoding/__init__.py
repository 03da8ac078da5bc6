"""Decode text, images and audio in worker processes: a crash costs one content."""
