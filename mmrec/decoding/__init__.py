"""Bytes to contents, in processes of their own: whatever a decoder does there costs one content."""
