"""User models: interests from content, and the trained user tower."""
