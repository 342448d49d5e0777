"""`python -m tallykeep`, for where the program is not on the PATH."""

from tallykeep.cli.main import leave

if __name__ == "__main__":
    leave()
