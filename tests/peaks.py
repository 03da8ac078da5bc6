"""How a process that a test starts tells the most memory it held."""

PEAK = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
"""
"""Source of `peak()`, in kilobytes. Not getrusage: its peak is at least that of the test process it was made from."""
