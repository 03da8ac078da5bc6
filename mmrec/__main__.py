"""The command line: ``python -m mmrec`` does what the command ``mmrec`` does."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
