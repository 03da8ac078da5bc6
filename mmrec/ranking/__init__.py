"""Candidates and their vectors in, the order of a list out; nothing here knows stores, people or models."""
