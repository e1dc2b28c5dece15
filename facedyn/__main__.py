"""`python -m facedyn`, the same as `facedyn`."""

import sys

from facedyn.main import main

if __name__ == "__main__":
    sys.exit(main())
