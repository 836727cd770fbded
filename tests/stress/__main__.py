"""``python -m stress``: see ``campaign``."""

import sys

from stress.campaign import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
