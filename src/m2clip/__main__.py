"""`python -m m2clip` and `torchrun -m m2clip`: the command line."""

from m2clip.cli import main

if __name__ == "__main__":
    main()
