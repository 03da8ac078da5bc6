"""The embedding job: reads, decodes, encodes and writes what is missing, all at once."""
