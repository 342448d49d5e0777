"""`python -m tallykeep`, for where the program is not on the PATH."""

import sys

from tallykeep.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
