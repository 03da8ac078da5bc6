"""From a person to a list: what they did, where that places them, what is near, in which order, and why."""
