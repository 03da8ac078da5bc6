"""Media on the web, fetched by one guarded fetcher."""
