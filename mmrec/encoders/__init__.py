"""Content in, unit vectors out: the encoder protocol, the packaged encoders, and how a config names others."""
