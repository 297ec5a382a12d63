"""Scores rows by an exported model: `python export/score.py images.npz --url URL`, or `python -m iwae_tf score`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iwae_tf.commands.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("score"))
