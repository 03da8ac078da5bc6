"""The log's tables in a database, and what each kind of database needs said its own way."""
