"""Training: from histories and contents to a tower."""
