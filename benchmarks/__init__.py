"""One file per claim. Each takes ``--quick``, prints a table, and last one line of JSON with the same figures."""

from mmrec.compute import keep_freed_memory, let_waiting_threads_sleep

# Torch reads how threads wait when it is loaded, so this comes before any benchmark's imports.
let_waiting_threads_sleep()
keep_freed_memory()
