"""Trains an importance weighted autoencoder: `python train.py --k 50`; the same as `python -m iwae_tf train`."""

import sys

from iwae_tf.commands.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("train"))
