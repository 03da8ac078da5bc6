"""One file per claim. Each takes ``--quick``, prints a table, and last one line of JSON with the same figures."""

from mmrec.compute import let_waiting_threads_sleep
from mmrec.heap import keep_freed_memory

# Torch reads how threads wait when it is loaded, so this comes before any benchmark's imports.
let_waiting_threads_sleep()
keep_freed_memory()
