"However a run ends, nothing half passes for whole, and the same command goes on from there."

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import run as tool
from book import chapters, seed_folder
from conftest import ROOT, call, run_book

from fmnist_cluster.runs import stage_metrics

STAGES = {chapter: seed_folder(42, chapter) for chapter in chapters("main")}


@pytest.mark.parametrize("stride, deaths", [(25, 3), pytest.param(1, 50, marks=pytest.mark.long)])
def test_a_stage_killed_at_every_step(stride, deaths, tmp_path):
    """See killed.py: each death at another change of the file system, half of them within a file.

    A few of them, or all of more than fifty.
    """
    process = call(
        "tests/killed.py",
        tmp_path,
        stride,
        OMP_NUM_THREADS="1",
        PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    )
    assert process.returncode == 0, process.stderr
    counted = json.loads(process.stdout.splitlines()[-1])
    assert counted["deaths"] >= deaths and counted["complete at death"] <= 1


# the book's own chapters


def start(runs):
    "Start the book on digits as a person does, in a process group of its own."
    return subprocess.Popen(
        [sys.executable, "-m", "fmnist_cluster", "run", "--dataset", "digits"],
        cwd=ROOT,
        env=os.environ | {"FMNIST_CLUSTER_RUNS": str(runs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def family(process):
    "Return a process and all that it has started, kernels too."
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def wait_for(chapters, base, process, seconds=600):
    "Return the first of these chapters whose notebook runs; None if the run ended before."
    logs, begun = (
        {chapter: base / STAGES[chapter] / "papermill.log" for chapter in chapters},
        time.time(),
    )
    while time.time() - begun < seconds:
        if process.poll() is not None:
            return None
        for chapter, log in logs.items():
            if log.exists() and log.stat().st_mtime >= begun - 5 and "Executing" in log.read_text():
                return chapter
        time.sleep(0.2)
    raise TimeoutError(chapters)


def kill(processes):
    for one in processes:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            pass
    assert psutil.wait_procs(processes, 20)[1] == []


def whole_or_absent(base):
    "Return the names of the complete stages, each checked."
    found = {chapter: stage_metrics(base / stage) for chapter, stage in STAGES.items()}
    for chapter, facts in found.items():
        assert (
            facts is None
            or facts["chapter"] == chapter
            and all((base / STAGES[chapter] / name).exists() for name in facts["files"])
        )
    return {chapter for chapter, facts in found.items() if facts}


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_in_one_line(number, tmp_path):
    process, base = start(tmp_path), tmp_path / "quick" / "digits"
    assert wait_for(["04_autoencoder"], base, process)
    running = family(process)
    process.send_signal(number)
    shown, said = process.communicate(timeout=120)
    assert (
        process.returncode == 130 and len(said.strip().splitlines()) == 1 and "failed" not in shown
    )
    assert (
        said.strip().startswith("Stopped after") and "The same command goes on from there." in said
    )
    assert psutil.wait_procs(running, 30)[1] == []
    assert all(STAGES[chapter] in said for chapter in whole_or_absent(base))
    assert [file.name for file in base.rglob(".*-*") if file.is_file()] == []
    tool.hold(base).close()


@pytest.mark.long
def test_what_an_orphan_still_writes_is_left_to_it(tmp_path):
    "Only the outermost process is killed: Snakemake goes on alone and keeps the folder."
    process, base = start(tmp_path), tmp_path / "quick" / "digits"
    assert wait_for(["04_autoencoder"], base, process)
    orphans = family(process)[1:]
    process.kill()
    process.wait()
    refused = run_book(tmp_path)
    kill(orphans)
    assert refused.returncode == 1 and "in use by another" in refused.stderr
    tool.hold(base).close()


@pytest.mark.long
def test_killed_in_every_chapter(book, tmp_path):
    """kill -9 while each chapter runs, in the order in which they come.

    The run after the last is as one that nobody disturbed.
    """
    base, left = tmp_path / "quick" / "digits", list(STAGES)
    while left:
        process = start(tmp_path)
        if chapter := wait_for(left, base, process):
            time.sleep(len(left) % 4)
            kill(family(process))
            left.remove(chapter)
        process.communicate()
        whole_or_absent(base)
        # it came to its end
        if not chapter:
            break  # it came to its end
    assert len(left) < len(STAGES) / 2
    again = run_book(tmp_path)
    assert again.returncode == 0, again.stderr
    assert whole_or_absent(base) == set(STAGES)
    kept = [
        file.relative_to(book.base)
        for pattern in ("labels_*.npy", "embedding_*.npy", "history.csv")
        for file in book.base.rglob(pattern)
    ]
    assert (
        len(kept) > 20
        and [name for name in kept if (base / name).read_bytes() != (book.base / name).read_bytes()]
        == []
    )
    timeless = lambda folder: [
        {
            key: value
            for key, value in record.items()
            if not key.endswith(("seconds", "seconds_per_1k", "memory_mb"))
        }
        for record in json.loads((folder / "evaluation_metrics.json").read_text())
    ]
    assert timeless(base) == timeless(book.base)
