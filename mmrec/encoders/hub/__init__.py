"""Encoders of models from a hub or a directory: one file a kind. Nothing is imported before such an encoder is used."""
