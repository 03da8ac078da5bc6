"""People in the space of the items."""
