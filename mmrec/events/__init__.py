"""Behaviour: what people did, kept in a log, cleaned, and read as histories."""
