"""The event log: kinds, import and export, cleaning, user histories, splits."""
