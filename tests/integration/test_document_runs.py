"""The commands of pages are executed in their order, with fewer epochs, samples and figures; all others are parsed."""

import contextlib
import csv
import importlib.util
import io
import json
import logging
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from processes import started
from test_document_commands import SCRIPTS, commands
from test_documents import ROOT, blocks

import iwae_tf
from iwae_tf.commands.main import main

README, ALARMS, DEPLOYMENT = ROOT / "README.md", ROOT / "docs/anomalies.md", ROOT / "docs/deploy.md"
# Pages whose commands are all executed, but for those that cannot be:
COMPLETE = (ALARMS, DEPLOYMENT)
NOT_EXECUTED = {
    "docker compose -f export/serving/compose.yaml up": "needs a Docker engine: test_docker.py",
    "kubectl apply -f export/serving/kserve.yaml": "needs a cluster",
    ".venv/bin/pip install -r requirements-serving.txt": "requirements-dev.txt has it",
    ".venv/bin/pip install -r requirements-beam.txt": "requirements-dev.txt has it",
    ".venv/bin/python examples/anomalies.py repeat": "five runs: test_examples.py compares them with the page",
}
# Appended to the commands; the last value of a flag counts.
CUT = {
    "train": ["--epochs", "4", "--eval-samples", "50", "--verbose", "0"],
    "export": ["--num-samples", "50", "--refine", "off"],
    "score": [],
    "serve": ["--port", "0"],
}
FEWER = {"5000": "50"}  # samples
CELLS = "cells.csv"
PARTS = {
    "table of the readme": [block for page in (README, DEPLOYMENT) for block in blocks(page, "sh") if CELLS in block],
    "tumours": blocks(ALARMS, "sh")[:2],
    "unseen digit": blocks(ALARMS, "sh")[2:],
    "deployment": [block for block in blocks(DEPLOYMENT, "sh") if CELLS not in block],
}
BEAM = "export/score_beam.py"


@pytest.fixture
def execute(tmp_path, monkeypatch, without_figures, without_refinement):
    """A function that executes a command in an empty folder and returns what it prints on stdout; servers stay up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")  # BEAM changes it, and the level of the log
    monkeypatch.setattr(logging.getLogger(), "level", logging.getLogger().level)
    servers, address = [], ["localhost:8501"]

    def serve(words: list[str]) -> None:
        printed = Path("served.txt")
        printed.touch()
        servers.append(started(["serve", *words], printed))
        end = time.monotonic() + 120
        while not (found := re.search(r"http://([\d.:]+)/", printed.read_text())):
            assert servers[-1].is_alive(), printed.read_text()
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.1)
        address[0] = found[1]

    def run_script(file: str, words: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", [file, *words])
        try:
            runpy.run_path(str(ROOT / file), run_name="__main__")
        except SystemExit as end:
            return end.code
        return 0

    def run(words: list[str]) -> None:
        program, first, *rest = (FEWER.get(word, word).replace("localhost:8501", address[0]) for word in words)
        if program == "curl":
            done = subprocess.run(["curl", "-sS", first, *rest], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            print(done.stdout)
            return
        assert program == ".venv/bin/python"
        name = SCRIPTS.get(first)
        if first == "-c":
            exec(rest[0], {})
        elif name == "serve":
            serve([*rest, *CUT[name]])
        else:
            assert (main([name, *rest, *CUT[name]]) if name else run_script(first, rest)) == 0

    def execute(words: list[str]) -> str:
        words, file = (words[:-2], words[-1]) if ">" in words else (words, None)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run(words)
        if file:
            Path(file).write_text(printed.getvalue())
        return printed.getvalue()

    yield execute
    for server in servers:
        server.terminate()
        server.join(30)


def part(name: str) -> list[list[str]]:
    """Returns the commands of a part that can be executed."""
    found = (words for block in PARTS[name] for words in commands(block, outputs=True))
    return [words for words in found if " ".join(words) not in NOT_EXECUTED]


def numbers(printed: str) -> dict[str, float]:
    """Returns the lines of text and a number."""
    return {name.strip(): float(value) for name, value in re.findall(r"^(.*?)\s+(-?[\d.]+)$", printed, re.MULTILINE)}


def test_the_commands_that_are_not_executed_are_on_the_pages():
    written = [" ".join(words) for page in COMPLETE for block in blocks(page, "sh") for words in commands(block)]
    assert set(NOT_EXECUTED) <= set(written)
    in_parts = [block for blocks_of_part in PARTS.values() for block in blocks_of_part]
    assert all(block in in_parts for page in COMPLETE for block in blocks(page, "sh"))


@pytest.mark.slow
def test_a_table_gets_scores_by_the_four_commands_of_the_readme_and_from_a_server(execute):
    python, train, export, score, request, curl = part("table of the readme")
    assert "as_frame" not in python[2]  # needs pandas, which a new environment does not have
    for words in (python, train, export, score):
        execute(words)
    with open("cells-scores.csv") as file:
        scored = list(csv.DictReader(file))
    assert len(scored) == 569
    assert {line["status"] for line in scored} == {"0"}

    if importlib.util.find_spec("kserve") is None or shutil.which("curl") is None:
        pytest.skip("all commands but curl have run: the KServe SDK or curl is not installed")
    execute([".venv/bin/python", "export/serve_local.py", "export/models/cells"])
    execute(request)
    answered = json.loads(execute(curl))["predictions"]
    assert [np.float32(row["log_prob"]) for row in answered] == [np.float32(row["log_prob"]) for row in scored[:2]]


@pytest.mark.slow
def test_tumours_end_in_alarms(execute):
    *_, printed = map(execute, part("tumours"))
    found = numbers(printed)
    assert found["AUROC, log p(x)"] > 0.8
    assert found["benign rows that alarm at 0.05"] < 0.2 < found["malignant rows that alarm at 0.05"]
    with open("runs/anomalies/scores.csv") as file:
        scored = list(csv.DictReader(file))
    assert np.mean([line["alarm"] == "1" for line in scored[80:]]) == pytest.approx(
        found["malignant rows that alarm at 0.05"], abs=0.001
    )
    assert Path("runs/anomalies/anomalies.png").stat().st_size > 5_000


@pytest.mark.slow
def test_an_unseen_digit_is_scored_and_drawn(execute):
    *_, printed = map(execute, part("unseen digit"))
    assert printed.startswith("194 new digits 0 to 8, 180 nines\n")
    scores, plain = (np.load(f"runs/unseen-digit/{name}.npz") for name in ("scores", "scores-q"))
    assert np.isfinite(scores["p_value"]).all()
    assert np.isnan(plain["p_value"]).all()  # of another number of samples
    for name in ("unseen_digit", "unseen_digit-contributions"):
        assert Path(f"runs/unseen-digit/{name}.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="the KServe SDK is not installed")
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_run_is_deployed_and_every_way_gives_the_same_scores(execute):
    *ours, beam = part("deployment")
    assert beam[1] == BEAM
    printed = {words[0]: execute(words) for words in ours}
    scored = np.genfromtxt("scores.csv", delimiter=",", names=True, dtype=np.float32)
    assert len(scored) == 400
    assert (scored["status"] == 0).all()
    assert np.ptp(scored["log_prob"]) > 1
    answered = json.loads(printed["curl"])["predictions"]
    np.testing.assert_array_equal([np.float32(row["log_prob"]) for row in answered], scored["log_prob"][:2])

    if importlib.util.find_spec("apache_beam") is None:
        pytest.skip("all commands but score_beam.py have run: Apache Beam is not installed")
    x = iwae_tf.data.load("digits").x_test
    for number, rows in enumerate((x[:30], x[30:50])):
        pyarrow.parquet.write_table(pyarrow.table({"x": list(rows)}), f"rows-{number}.parquet")
    execute(beam)
    table = pyarrow.concat_tables(map(pyarrow.parquet.read_table, Path("scores").glob("part-*.parquet")))
    log_prob = table.sort_by([("file", "ascending"), ("row", "ascending")])["log_prob"]
    np.testing.assert_array_equal(log_prob, scored["log_prob"][:50])
