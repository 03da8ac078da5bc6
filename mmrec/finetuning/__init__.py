"""Encoders adapted to a catalog: objectives, towers, the loop, and whether it helped."""
