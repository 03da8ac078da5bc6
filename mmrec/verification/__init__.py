"""Whether a store is sound, what is broken in it, and how it is mended."""
