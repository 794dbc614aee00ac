"Studies, sweeps and what people ask of many runs."
import json
import shutil

import pytest
import run_book
from conftest import call, copy_project
from fmnist_cluster.core import InputError
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook

COMMON = """dataset = "digits"     # data
seed = 42               # seed
run = "book"            # run
out_run = ""            # out
preset = "full"         # preset
device = "auto"         # device
force = False           # force
"""
STAGE = 'stage = Stage("%s", dataset=dataset, seed=seed, run=run, out_run=out_run, preset=preset, device=device, force=force, %s)'


def notebook(file, parameters, *sources):
    "Write a small chapter: the parameters that all chapters have and these, then the given cells."
    cells = [new_code_cell(COMMON + parameters, metadata={"tags": ["parameters"]}), new_code_cell("from fmnist_cluster.core import Stage"),
             new_code_cell(STAGE % (file.stem, ", ".join(f"{line.split()[0]}={line.split()[0]}" for line in parameters.splitlines()))),
             *map(new_code_cell, sources)]
    write(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), file)


def test_a_study_is_one_line(book, tmp_path):
    "In a copy of the project: a notebook and its line in the table are all it takes; what the main line has made is not made again."
    project, runs = copy_project(tmp_path / "project"), tmp_path / "runs"
    base = runs / "quick/digits"
    notebook(project / "nbs/90_small.ipynb", "n = 3   # a number\n",
             'stage.save("facts.json", {"n": n, "loss": stage.load("04_autoencoder", "ae/fit.json")["fit_seconds"]})', "stage.finish();")
    graph = project / "workflow/book.py"
    graph.write_text(graph.read_text().replace("STUDIES = {\n", 'STUDIES = {\n    "90_small": ["04_autoencoder"],\n'))
    shutil.copytree(book.base / "seed=42/04_autoencoder", base / "seed=42/04_autoencoder")
    before = (base / "seed=42/04_autoencoder/metrics.json").stat().st_mtime_ns
    asked = ["tools/run_book.py", "--dataset", "digits", "--studies", "90_small"]
    first, again = (call(*asked, cwd=project, FMNIST_CLUSTER_RUNS=str(runs), PYTHONPATH=str(project)) for _ in range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    assert json.loads((base / "seed=42/90_small/facts.json").read_text())["n"] == 3
    assert [line.split()[1:3] for line in first.stdout.splitlines() if line.startswith("  seed=42/")] == [["done"], ["to", "do,"]]
    assert "  in all about 0 s" in again.stdout and "  90_small" not in again.stdout and again.returncode == 0
    assert (base / "seed=42/04_autoencoder/metrics.json").stat().st_mtime_ns == before and not (base / "08_evaluation").exists()


def test_an_unknown_study_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path / "runs"))
    with pytest.raises(InputError, match="STUDIES names '11_none'; expected some of "):
        run_book.main(preset="quick", seeds=["42"], dataset="digits", run="", force=False, studies=["11_none"])
    assert not (tmp_path / "runs").exists()


def test_a_failure_is_named_even_if_its_notebook_is_cut_short(tmp_path):
    (tmp_path / "notebook.ipynb").write_text('{"cells": [')
    (tmp_path / "papermill.log").write_text("a word\nKilled\n\n")
    assert run_book.reason(tmp_path) == "Killed"


def test_a_forecast_takes_the_times_of_this_machine_first(monkeypatch, tmp_path):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    base = tmp_path / "a" / "digits"
    for seed, seconds in {1: 10, 2: 30, 3: 40}.items():
        folder = base / f"seed={seed}" / "04_autoencoder"
        folder.mkdir(parents=True)
        (folder / "benchmark.tsv").write_text(f"s\tmax_rss\n{seconds}\t1\n")
        (folder / "metrics.json").write_text(json.dumps({"provenance": {"preset": "quick"}}))
    stages = [(base / f"seed={seed}" / chapter, chapter) for seed in (1, 4) for chapter in ("04_autoencoder", "05_ae_kmeans")]
    lines = run_book.forecast(base, stages, "quick", "digits").splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:4]] == ["done", "to do, nobody knows how long", "to do, about 30 s", "to do, nobody knows how long"]
    assert lines[4] == "  in all about 30 s and what the 2 unknown take"
    assert run_book.expected_seconds("04_autoencoder", "full", "fashion_mnist") > 0, "the reference run is on record"
