"""The scoring client where nothing but `requirements-client.txt` can be imported; test_serve_local.py installs it."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from scripted_server import scores_of

from iwae_tf.errors import missing_package

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).random((60, 4), dtype=np.float32)

# Runs commands, one a line of stdin, while every import but of the standard library and of argv[1] fails.
SCRIPT = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        known = package in sys.stdlib_module_names or package.startswith("_")
        if not known and package not in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from iwae_tf.serving.client import ScoringClient
from iwae_tf.commands.main import main
for line in sys.stdin:
    print("exit code", main(json.loads(line)), flush=True)
try:
    ScoringClient("model")
except ValueError as error:
    print(error)
"""


def names_in(file: Path) -> set[str]:
    """Returns the distributions that a requirements file names, and those that they require without extras."""
    found = set()
    wanted = [re.match(r"[\w-]+", line)[0] for line in file.read_text().splitlines() if re.match(r"\w+(?!.*;)", line)]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        required = [text for text in importlib.metadata.requires(name) or [] if ";" not in text]  # no extra, any system
        wanted += [re.match(r"[\w-]+", text)[0] for text in required]
    return found


def test_a_client_needs_its_own_requirements_alone(server, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    lines = ["a,b,c,d", *(",".join(map(str, row)) for row in X.tolist())]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    columns = [{"name": name, "kind": "real", "categories": []} for name in "abcd"]
    (tmp_path / "config.json").write_text(json.dumps({"data": {"dataset": "rows", "table_columns": columns}}))
    for file in ("model/1/saved_model.pb", "images/a.png"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    jobs = [
        ["score", "rows.npy", "--url", server.url, "--out", "array.csv"],
        ["score", "rows.csv", "--url", server.url, "--data-of", ".", "--out", "table.parquet", "--num-samples", "5"],
        ["--help"],
        ["score", "rows.npy", "--url", "model"],
        ["score", "rows.npy", "--url", "grpc://localhost:1/m"],
        ["score", "images", "--url", server.url],
        ["train"],
    ]
    packages = {name.replace("-", "_") for name in names_in(ROOT / "requirements-client.txt")}
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{SCRIPT}"]
    command.append(",".join({*packages, "iwae_tf"}))
    text = "\n".join(map(json.dumps, jobs))
    done = subprocess.run(command, input=text, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    codes = re.findall(r"^exit code (\d+)$", done.stdout, re.MULTILINE)
    assert codes == ["0", "0", "0", "2", "2", "2", "2"], done.stderr
    assert "Scores the rows of a file" in done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    needed = [re.search(r"needs (\S+), which is not installed: run pip install \1,", line)[1] for line in errors]
    assert needed == ["tensorflow", "tensorflow", "pillow", "filelock"]
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1].startswith("this needs tensorflow, which is not installed")
    found = np.genfromtxt(tmp_path / "array.csv", delimiter=",", names=True, dtype=np.float32)
    table = pyarrow.parquet.read_table(tmp_path / "table.parquet")
    for name, values in scores_of(X).items():
        np.testing.assert_array_equal(found[name], values)
        np.testing.assert_array_equal(table[name], values)


def test_the_requirements_of_a_client_are_those_of_the_package():
    lines = {line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()}
    own = [line.partition("#")[0].strip() for line in (ROOT / "requirements-client.txt").read_text().splitlines()]
    assert len([line for line in own if line]) == 7
    assert set(own) <= lines


@pytest.mark.parametrize(
    ("module", "package"), [("PIL.Image", "pillow"), ("tensorflow", "tensorflow"), ("h5py", "h5py")]
)
def test_a_missing_package_is_named_as_pip_knows_it(module, package):
    assert f"pip install {package}," in str(missing_package(ModuleNotFoundError(name=module)))
