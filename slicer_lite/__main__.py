"""`python -m slicer_lite`: the command line."""

from slicer_lite.cli import main

if __name__ == "__main__":
    main()
