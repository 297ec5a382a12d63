"""Run folder to SavedModel: `python export/export_model.py RUN`; the same as `python -m iwae_tf export RUN`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iwae_tf.commands.main import run_script

if __name__ == "__main__":
    sys.exit(run_script("export"))
