"What several tests share: the project's tools, and the book, run once on digits."

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from book import CHAPTERS, chapters
from hypothesis import HealthCheck, settings

# small fits: threads that wait for each other cost more than they bring, above all on busy cores
for name, value in {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}.items():
    os.environ.setdefault(name, value)

pytest_plugins = ["small_book"]

ROOT = Path(__file__).resolve().parent.parent
# the main line's chapters that fit something: no label may reach them
TRAINING = [
    chapter
    for chapter in chapters("main")
    if CHAPTERS[chapter]["methods"] or CHAPTERS[chapter]["gpu"]
]

# of tests whose input Hypothesis makes up: the same input in each run
GENERATED = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


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
    words = ["-m", "fmnist_cluster", "run", "--dataset", "digits", *options]
    return call(*words, FMNIST_CLUSTER_RUNS=str(runs), **environment)


def papermill(chapter, runs, *options, **environment):
    "Run one chapter on digits by papermill, its notebook into the folder `runs`."
    runs.mkdir(exist_ok=True)
    words = ["-m", "papermill", f"nbs/{chapter}.ipynb", runs / "out.ipynb", "--no-progress-bar"]
    return call(
        *words, "-p", "dataset", "digits", *options, FMNIST_CLUSTER_RUNS=str(runs), **environment
    )


def last_line(process):
    "Return the last line that a process wrote to stderr: what a person reads first."
    return [line for line in process.stderr.splitlines() if line.strip()][-1]


def refusal(function, *words):
    "Return the message of the InputError that `function` raises: one line with these words in it."
    from fmnist_cluster.core import InputError

    with pytest.raises(InputError) as caught:
        function()
    message = str(caught.value)
    assert "\n" not in message, message
    assert [word for word in words if word not in message] == [], message
    return message


def git(*words):
    "Return what git says in the checkout."
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def tree_status():
    "Return what `git status` says of the checkout."
    return git("status", "--porcelain")


def copy_project(to, source=None):
    "Copy the checkout as git would commit it, or `source`, times kept; return the new folder."
    if source:
        return shutil.copytree(source, to)
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if not name or not (ROOT / name).is_file():
            continue
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    return to


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    "Give a place with no data and no way to fetch any; its raw folder."
    from fmnist_cluster import data

    monkeypatch.setenv("FMNIST_CLUSTER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "project_root", lambda: tmp_path)
    monkeypatch.setattr(data, "_download", lambda *_: False)
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    return raw


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    "Run the whole book on digits, preset quick, seed 42; keep what `git status` said before."
    runs, before = tmp_path_factory.mktemp("runs"), tree_status()
    process = run_book(runs)
    assert process.returncode == 0, process.stdout + process.stderr
    return SimpleNamespace(
        runs=runs, base=runs / "quick" / "digits", process=process, status_before=before
    )
