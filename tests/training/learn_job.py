"""Runs the command line; started by one or several processes."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
