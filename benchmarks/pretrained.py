"""Makes a model to start from of a finished run: `python -m benchmarks.pretrained RUN pretrained/NAME`.

The folder is that of a run with what is needed to score and to check its numbers, without the state of the optimiser
and without paths of this machine. README.md is the model card of its export.
"""

import argparse
import json
import tempfile
from pathlib import Path

import pyarrow.parquet

from iwae_tf.commands.export import export
from iwae_tf.config import ExportConfig
from iwae_tf.serving.model_card import MODEL_CARD
from iwae_tf.training.run_folder import read_trained, write_json


def publish(run: Path, folder: Path) -> None:
    """Writes the folder; it must not exist yet."""
    folder.mkdir(parents=True)
    trained = read_trained(run)
    data_dir = trained.config["data"].get("data_dir")
    trained.model.save(folder / "model.keras")  # a run's model is read without its optimiser
    for name in ("config", "metrics"):
        text = (run / f"{name}.json").read_text()
        if data_dir:
            text = text.replace(json.dumps(data_dir), "null").replace(f"{data_dir.rstrip('/')}/", "")
        content = json.loads(text)
        if start := content.get("training", {}).get("init_from"):
            content["training"]["init_from"] = Path(start).name
        write_json(folder / f"{name}.json", content)
    table = pyarrow.parquet.read_table(run / "scores.parquet")
    real = [field.name for field in table.schema if str(field.type) == "double"]
    packed = {"compression": "zstd", "use_dictionary": False, "use_byte_stream_split": real}  # 0.7 of the size
    pyarrow.parquet.write_table(table, folder / "scores.parquet", **packed)
    with tempfile.TemporaryDirectory() as temporary:
        version = export(read_trained(folder), Path(temporary) / folder.name, ExportConfig(), data_dir)
        (folder / "README.md").write_text((version / MODEL_CARD).read_text())


def main() -> None:
    """Writes the folder and says how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to make")
    arguments = parser.parse_args()
    publish(arguments.run, arguments.folder)
    files = sorted(arguments.folder.iterdir())
    print(f"written: {sum(file.stat().st_size for file in files) / 1e6:.2f} MB", *files, sep="\n")


if __name__ == "__main__":
    main()
