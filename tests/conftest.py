"What several tests share: the project's tools, and the book, run once on digits."

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

for name, value in {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}.items():
    os.environ.setdefault(
        name, value
    )  # small fits: threads that wait for each other cost more than they bring, above all on busy cores

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "workflow"), str(ROOT / "tools")]

from book import CHAPTERS, chapters  # noqa: E402  needs the path above

# the main line's chapters that fit something: no label may reach them
TRAINING = [
    chapter
    for chapter in chapters("main")
    if CHAPTERS[chapter]["methods"] or CHAPTERS[chapter]["gpu"]
]


def call(*words, cwd=ROOT, **environment):
    "Run a Python module or script as a person would; the finished process, its output as text."
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def run_book(runs, *options, **environment):
    "`make run` on digits into the folder `runs`."
    return call(
        "-m",
        "fmnist_cluster",
        "run",
        "--dataset",
        "digits",
        *options,
        FMNIST_CLUSTER_RUNS=str(runs),
        **environment,
    )


def papermill(chapter, runs, *options, **environment):
    "One chapter on digits by papermill, its notebook into the folder `runs`."
    runs.mkdir(exist_ok=True)
    return call(
        "-m",
        "papermill",
        f"nbs/{chapter}.ipynb",
        runs / "out.ipynb",
        "--no-progress-bar",
        "-p",
        "dataset",
        "digits",
        *options,
        FMNIST_CLUSTER_RUNS=str(runs),
        **environment,
    )


def last_line(process):
    "The last line that a process wrote to stderr: what a person reads first."
    return [line for line in process.stderr.splitlines() if line.strip()][-1]


def tree_status():
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def copy_project(to, source=None):
    "A copy of the checkout as git would commit it, or of `source`, times kept; returns its folder."
    if source:
        return shutil.copytree(source, to)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        if not name or not (ROOT / name).is_file():
            continue
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    return to


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    "The whole book on digits, preset quick, seed 42; and what `git status` said before."
    runs, before = tmp_path_factory.mktemp("runs"), tree_status()
    process = run_book(runs)
    assert process.returncode == 0, process.stdout + process.stderr
    return SimpleNamespace(
        runs=runs, base=runs / "quick" / "digits", process=process, status_before=before
    )
