"""Real catalogs for the demo and the benchmarks: Tux Paint's stamps, and the films of MovieLens 100K."""
