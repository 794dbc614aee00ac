"`python -m fmnist_cluster` does what the command `fmnist-cluster` does."

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
