"""Files of events: their rows as columns, a bounded number of them in memory."""
