"Killed at random moments and started again, a sweep ends as if nothing had happened."

import json
import os
import random
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import copy_project
from small_book import environment

pytestmark = pytest.mark.long

KILLS = 5
# keys and columns that no two runs share, and checksums over them
MEASURED = re.compile(r"second|memory|commit|sha256|files")
TABLES = {
    "small": "06_second.factor\na,digits,quick,42 1 2,\nb,digits,quick,42 1 2,3\n",
    "book": "06_dec_idec.gamma\na,digits,quick,42 1 2,\nb,digits,quick,42 1 2,0.5\n",
}


def start(project, runs, log):
    "Start the sweep, as a person does."
    return subprocess.Popen(
        [sys.executable, "-m", "fmnist_cluster", "sweep", project.parent / "two.csv"],
        cwd=project,
        stdout=open(log, "w"),
        stderr=subprocess.STDOUT,
        env=os.environ | environment(project, runs),
    )


def kill_all(runs):
    """Kill (-9) every process of the sweep, kernels too, which are sessions of their own.

    All have the folder of the runs in their environment.
    """

    def ours(process):
        try:
            return process.environ().get("FMNIST_CLUSTER_RUNS") == str(runs)
        except psutil.Error:
            return False

    while victims := [process for process in psutil.process_iter() if ours(process)]:
        for process in victims:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(victims, timeout=10)


def done(runs):
    return list(runs.glob("*/digits/**/metrics.json"))


def finished(log):
    "Return the stages that a sweep has said to be finished."
    return {match[1] for match in re.finditer(r"^  (\d\d_.*\S) +\d+ s$", log.read_text(), re.M)}


def without_measured(value):
    if isinstance(value, list):
        return [without_measured(item) for item in value]
    return (
        {key: without_measured(item) for key, item in value.items() if not MEASURED.search(key)}
        if isinstance(value, dict)
        else value
    )


def results(runs):
    """Return every JSON, table and array of the runs, by name, without what was measured.

    Reading them also shows that each is whole.
    """
    found = {}
    for file in (file for file in runs.glob("*/digits/**/*") if file.is_file()):
        if file.suffix == ".json":
            found[file.relative_to(runs)] = without_measured(json.loads(file.read_text()))
        if file.suffix == ".csv":
            found[file.relative_to(runs)] = (
                pd.read_csv(file).filter(regex=f"^((?!{MEASURED.pattern}).)*$").to_csv()
            )
        if file.suffix == ".npy":
            found[file.relative_to(runs)] = np.load(file).tobytes()
        if file.suffix == ".safetensors":
            found[file.relative_to(runs)] = file.read_bytes()
    return found


@pytest.mark.parametrize("size", ["small", "book"])
def test_killed_and_started_again(size, request, tmp_path):
    project = (
        copy_project(tmp_path / "project")
        if size == "book"
        else copy_project(tmp_path / "project", request.getfixturevalue("small_project"))
    )
    (tmp_path / "two.csv").write_text(f"run,dataset,preset,seeds,{TABLES[size]}")
    quiet, runs, rng = tmp_path / "quiet", tmp_path / "killed", random.Random(8)
    assert start(project, quiet, tmp_path / "quiet.log").wait() == 0, (
        tmp_path / "quiet.log"
    ).read_text()
    moments = sorted(rng.sample(range(len(done(quiet)) - 2), KILLS))
    said = []
    for number, moment in enumerate(moments):
        log = tmp_path / f"{number}.log"
        process = start(project, runs, log)
        while len(done(runs)) < moment or not log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        time.sleep(rng.uniform(0, 5))
        said.append(finished(log))
        # a stage counts as finished half a second after it says so
        time.sleep(0.5)
        assert process.poll() is None, "it ended before it could be killed"
        kill_all(runs)
        process.wait()
        # nothing is half written
        results(runs)
    last = tmp_path / "last.log"
    assert start(project, runs, last).wait() == 0, last.read_text()
    logs = [*(finished(tmp_path / f"{number}.log") for number in range(KILLS)), finished(last)]
    assert [
        (stage, number)
        for number, stages in enumerate(said)
        for stage in stages
        if any(stage in later for later in logs[number + 1 :])
    ] == []
    killed, undisturbed = results(runs), results(quiet)
    assert (
        killed.keys() == undisturbed.keys()
        and [str(name) for name in killed if killed[name] != undisturbed[name]] == []
    )
    assert not list(runs.rglob(".*-*")), "a temporary file was left"
    assert sorted(file.name for file in runs.glob("*/digits/*")) == sorted(
        file.name for file in quiet.glob("*/digits/*")
    )
