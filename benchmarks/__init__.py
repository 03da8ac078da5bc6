"""One file per claim. Each takes ``--quick``, prints a table, and last one line of JSON with the same figures."""
