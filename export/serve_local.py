"""Serves an exported model without Docker: `python export/serve_local.py export/models/digits`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iwae_tf.commands.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("serve"))
