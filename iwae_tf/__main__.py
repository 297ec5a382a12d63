"""`python -m iwae_tf NAME`."""

import sys

from iwae_tf.commands.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
