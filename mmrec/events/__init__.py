"""Behaviour: what users did, kept in a log, cleaned, and read as histories."""
