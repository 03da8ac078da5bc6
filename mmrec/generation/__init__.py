"""One immutable set of fusion, item vectors and index that belong together."""
