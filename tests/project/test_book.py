"The book end to end on digits: what it leaves, what a second call does, and what it refuses."

import json

import nbformat
import pandas as pd
import pytest
from book import CHAPTERS, chapters, seed_folder
from conftest import last_line, papermill, run_book, tree_status

MAIN = chapters("main")
METHODS = {method for chapter in MAIN for method in CHAPTERS[chapter]["methods"]}
STAGES = [seed_folder(42, chapter) for chapter in MAIN]


def times(base):
    return {stage: (base / stage / "metrics.json").stat().st_mtime_ns for stage in STAGES}


def test_every_stage_is_complete(book):
    for chapter, stage in zip(MAIN, STAGES):
        facts = json.loads((book.base / stage / "metrics.json").read_text())
        assert (facts["chapter"], facts["dataset"], facts["provenance"]["preset"]) == (
            chapter,
            "digits",
            "quick",
        )
        seconds = pd.read_csv(book.base / stage / "benchmark.tsv", sep="\t")
        assert seconds.s[0] > 0 and seconds.max_rss[0] > 0
        assert not list((book.base / stage).rglob(".*-*")), "a temporary file was left"


def test_every_notebook_was_executed_to_its_end(book):
    for stage in STAGES:
        notebook = nbformat.read(book.base / stage / "notebook.ipynb", as_version=4)
        assert all(
            cell.execution_count
            for cell in notebook.cells
            if cell.cell_type == "code" and cell.source.strip()
        )


def test_the_table_has_a_row_for_every_method(book):
    table = pd.read_csv(book.base / "09_evaluation" / "comparison.csv").set_index("method")
    assert METHODS <= set(table.index)
    shown = book.process.stdout[book.process.stdout.index("digits, test images") :]
    assert all(f" {method} " in shown or f"\n{method} " in shown for method in METHODS)
    accuracy = table["ACC (map from train)"]
    assert accuracy.drop("random").min() > 2 * accuracy["random"], "a method found next to nothing"


def test_records_keep_the_contract(book):
    records = json.loads((book.base / "evaluation_metrics.json").read_text())
    keys = {
        "method",
        "dataset",
        "split",
        "seed",
        "acc",
        "acc_train_mapping",
        "nmi",
        "ami",
        "ari",
        "purity",
        "f1",
        "silhouette",
        "calinski_harabasz",
        "davies_bouldin",
        "inertia",
        "n_clusters_found",
        "noise_fraction",
        "fit_seconds",
        "predict_seconds_per_1k",
        "peak_memory_mb",
        "device",
        "preset",
        "commit",
    }
    assert all(keys <= record.keys() for record in records)
    assert {(record["method"], record["split"]) for record in records} >= {
        (method, split) for method in METHODS for split in ("train", "test")
    }
    assert all(
        record["dataset"] == "digits" and 0 <= record["acc_train_mapping"] <= 1
        for record in records
    )


def test_the_report_is_there(book):
    report = (book.base / "report.html").read_text()
    assert "pseudo-label CNN, random start" in report and "stage.finish" not in report
    assert "One point a seed" in report, "the figures have lost their captions"
    assert str(book.base / "report.html") in book.process.stdout


def test_one_line_a_chapter(book):
    lines = [
        line
        for line in book.process.stdout.splitlines()
        if line.endswith(" s") and line.startswith("  ")
    ]
    assert sorted(line.split()[0] for line in lines) == MAIN


def test_the_tree_is_as_it_was(book):
    assert tree_status() == book.status_before


def test_a_second_call_does_nothing(book):
    before = times(book.base)
    again = run_book(book.runs)
    assert again.returncode == 0 and times(book.base) == before
    assert not any(
        chapter in again.stdout for chapter in MAIN if not CHAPTERS[chapter]["over_seeds"]
    )


# what is refused


def test_other_parameters_in_a_complete_stage(book):
    before = times(book.base)
    refused = run_book(book.runs, "--preset", "full", "--run", "quick")
    assert refused.returncode == 1 and times(book.base) == before
    assert len(refused.stderr.strip().splitlines()) == 1
    assert (
        "is complete with" in refused.stderr
        and "RUN=" in refused.stderr
        and "FORCE=1" in refused.stderr
    )


def test_other_parameters_by_papermill(book):
    before = times(book.base)
    refused = papermill("03_baseline", book.runs, "-p", "run", "quick", "-p", "n_init", "9")
    assert refused.returncode != 0 and times(book.base) == before
    assert "n_init=" in last_line(refused) and "out_run" in last_line(refused)


def test_unknown_parameter(tmp_path):
    refused = papermill("03_baseline", tmp_path / "runs", "-p", "run", "typo", "-p", "n_inti", "2")
    assert refused.returncode != 0
    assert last_line(refused).startswith("InputError: unknown parameter n_inti;")
    assert not (tmp_path / "runs" / "typo").exists()


@pytest.mark.parametrize(
    "chapter",
    [name for name, record in CHAPTERS.items() if record["reads"] and not record["over_seeds"]],
)
def test_missing_upstream_names_the_chapter(chapter, tmp_path):
    refused = papermill(chapter, tmp_path / "runs", "-p", "run", "empty")
    assert refused.returncode != 0
    assert any(
        f"needs {read}" in last_line(refused) and f"run nbs/{read}.ipynb" in last_line(refused)
        for read in CHAPTERS[chapter]["reads"]
    )
    assert not list((tmp_path / "runs").rglob("metrics.json"))


def test_a_chapter_that_fails_is_named_in_one_line(book, tmp_path):
    "The run names the chapter, the damaged file and where to look, and keeps what is complete."
    import shutil

    base = tmp_path / "quick" / "digits"
    shutil.copytree(book.base, base)
    for name in ("model.safetensors", "config.json"):
        (base / "seed=42/05_ae_kmeans/ae_kmeans" / name).write_bytes(b"broken")
    (base / "seed=42/06_dec_idec/metrics.json").unlink()
    failed = run_book(tmp_path)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert (
        "06_dec_idec failed: InputError: " in failed.stderr
        and "notebook.ipynb" in failed.stderr
        and "papermill.log" in failed.stderr
    )
    assert (
        not (base / "seed=42/06_dec_idec/metrics.json").exists()
        and (base / "seed=42/07_pseudo_label/metrics.json").exists()
    )


# one chapter alone


def test_one_chapter_alone_under_another_name(book):
    before = times(book.base)
    done = papermill(
        "06_dec_idec",
        book.runs,
        "-p",
        "run",
        "quick",
        "-p",
        "out_run",
        "gamma02",
        "-p",
        "gamma",
        "0.2",
        "-p",
        "max_iter",
        "140",
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((book.runs / "gamma02/digits/seed=42/06_dec_idec/metrics.json").read_text())
    assert (facts["parameters"]["gamma"], facts["reads_run"]) == (0.2, "quick") and times(
        book.base
    ) == before
