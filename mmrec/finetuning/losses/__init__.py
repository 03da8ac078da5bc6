"""What pairs and groups of vectors are pulled together and pushed apart by, one loss a file."""
