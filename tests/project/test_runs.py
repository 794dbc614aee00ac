"Studies, sweeps and what people ask of many runs; on a small book where that shows as much."

import json
import os
import re
import shutil

import book as graph
import nbformat
import numpy as np
import pandas as pd
import pytest
import run as run_book
import stage as one_stage
import yaml
from conftest import call, copy_project
from nbformat.v4 import new_code_cell, new_notebook
from small_book import RECORDS, environment, notebook

from fmnist_cluster import cli, tables
from fmnist_cluster.core import InputError
from fmnist_cluster.runs import Stage, stage_metrics
from fmnist_cluster.saving import load_artefact


@pytest.fixture(scope="session")
def swept(small_project, tmp_path_factory):
    "Sweep three runs of the small book, one of which must fail; the process and their folder."
    folder = tmp_path_factory.mktemp("swept")
    (folder / "three.csv").write_text(
        "run,dataset,preset,seeds,06_second.factor\none,digits,quick,42,\nbroken,digits,quick,42,0\ntwo,digits,quick,42,3\n"
    )
    process = call(
        "-m",
        "fmnist_cluster",
        "sweep",
        folder / "three.csv",
        cwd=small_project,
        **environment(small_project, folder / "runs"),
    )
    return process, folder / "runs"


@pytest.fixture
def small_runs(swept, monkeypatch):
    "Take the folder of the swept runs as this process's own."
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(swept[1]))
    records = yaml.safe_load(RECORDS).items()
    small = {name: graph.DEFAULTS | record for name, record in records}
    monkeypatch.setattr(graph, "CHAPTERS", small)
    return swept[1]


def test_a_study_is_a_notebook_and_a_record(book, tmp_path):
    """In a copy of the project: a notebook and its record are all it takes.

    What the main line has made is not made again.
    """
    project, runs = copy_project(tmp_path / "project"), tmp_path / "runs"
    base = runs / "quick/digits"
    notebook(
        project / "nbs/30_small.ipynb",
        "n = 3   # a number\n",
        'fit = stage.load("04_autoencoder", "ae/fit.json")',
        'stage.save("facts.json", {"n": n, "loss": fit["fit_seconds"]})',
        "stage.finish();",
    )
    with open(project / "workflow/chapters.yaml", "a") as records:
        records.write("30_small: {part: study, reads: [04_autoencoder]}\n")
    shutil.copytree(book.base / "seed=42/04_autoencoder", base / "seed=42/04_autoencoder")
    before = (base / "seed=42/04_autoencoder/metrics.json").stat().st_mtime_ns
    asked = ["-m", "fmnist_cluster", "run", "--dataset", "digits", "--studies", "30_small"]
    first, again = (
        call(*asked, cwd=project, FMNIST_CLUSTER_RUNS=str(runs), PYTHONPATH=str(project))
        for _ in range(2)
    )
    assert first.returncode == 0, first.stdout + first.stderr
    assert json.loads((base / "seed=42/30_small/facts.json").read_text())["n"] == 3
    assert [
        line.split()[1:3] for line in first.stdout.splitlines() if line.startswith("  seed=42/")
    ] == [["done"], ["to", "do,"]]
    assert (
        "  in all about 0 s" in again.stdout
        and "  30_small" not in again.stdout
        and again.returncode == 0
    )
    assert (base / "seed=42/04_autoencoder/metrics.json").stat().st_mtime_ns == before and not (
        base / "09_evaluation"
    ).exists()


def test_an_unknown_study_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path / "runs"))
    with pytest.raises(InputError, match="STUDIES names '11_none'; expected some of "):
        run_book.main(
            preset="quick", seeds=["42"], dataset="digits", run="", force=False, studies=["11_none"]
        )
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
    stages = [
        (base / f"seed={seed}" / chapter, chapter)
        for seed in (1, 4)
        for chapter in ("04_autoencoder", "05_ae_kmeans")
    ]
    lines = run_book.forecast(base, stages, "quick", "digits").splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:4]] == [
        "done",
        "to do, nobody knows how long",
        "to do, about 30 s",
        "to do, nobody knows how long",
    ]
    assert lines[4] == "  in all about 30 s and what the 2 unknown take"
    assert run_book.expected_seconds("04_autoencoder", "full", "fashion_mnist") > 0, (
        "the reference run is on record"
    )


# sweeps


def test_a_failing_job_stops_no_other_and_is_named_at_the_end(swept):
    process, runs = swept
    assert process.returncode == 1 and "Traceback" not in process.stderr, process.stderr
    assert all((runs / name / "digits/report.html").exists() for name in ("one", "two"))
    failed = runs / "broken/digits/seed=42/06_second"
    assert not (failed / "metrics.json").exists()
    told = process.stderr.strip().splitlines()
    assert told[0] == "06_second failed: InputError: factor is 0; expected another number."
    assert re.fullmatch(r"  cell     \[\d+\] if factor == 0: .*  \(id [\w-]+\)", told[1])
    assert told[2:] == [
        f"  notebook {failed / 'notebook.ipynb'}",
        f"  log      {failed / 'papermill.log'}",
    ]
    assert (
        all(f"{name}, digits, seed 42:" in process.stdout for name in ("one", "two"))
        and "broken, digits, seed" not in process.stdout
    )


def test_equal_stages_are_made_once_and_shared(swept):
    process, runs = swept
    first, second = (
        [runs / name / "digits/seed=42" / chapter for name in ("one", "broken", "two")]
        for chapter in ("03_first", "06_second")
    )
    assert len({(folder / "drawn.npy").stat().st_ino for folder in first}) == 1, (
        "the files are links to one"
    )
    assert len({(folder / "benchmark.tsv").stat().st_ino for folder in first}) == 3, (
        "each has its own cost"
    )
    assert json.loads((first[2] / "metrics.json").read_text())["reads_run"] == "one"
    assert np.allclose(np.load(second[2] / "part1.npy") / 3, np.load(second[0] / "part1.npy") / 2)
    assert json.loads((second[2] / "metrics.json").read_text())["parameters"] == {"factor": 3.0}


def test_a_shared_stage_is_no_door_into_the_other_run(tmp_path):
    "Files written in place (log, notebook, cost) are never links that somebody writes through."
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "ae").mkdir(parents=True)
    for name in (
        "metrics.json",
        "notebook.ipynb",
        "benchmark.tsv",
        "ae/labels.npy",
        "ae/.labels-x1.npy",
    ):
        (source / name).write_text(name)
    (target / "old").mkdir(parents=True)
    one_stage.share(source, target)
    assert {str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()} == {
        "metrics.json",
        "notebook.ipynb",
        "ae/labels.npy",
    } and not (target / "old").exists()
    assert (target / "metrics.json").stat().st_ino == (source / "metrics.json").stat().st_ino
    shell = (run_book.ROOT / "workflow/Snakefile").read_text()
    assert shell.index("rm -f {log.notebook:q} {log.text:q}") < shell.index(">{{log.text:q}}")


def stage_of(run, **more):
    return Stage("03_baseline", dataset="digits", seed=0, run=run, **more)


def test_a_shared_stage_made_again_leaves_the_other_as_it_was(tmp_path, monkeypatch):
    """Written to, finished twice and written to after that.

    The files of the stage that it was linked to, and their checksums, stay.
    """
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    first, second = stage_of("a"), stage_of("b")
    for name, value in {
        "kmeans/labels_test.npy": [1, 2],
        "grid/kmeans@pca2/labels_test.npy": [3],
    }.items():
        first.save(name, np.array(value))
    first.finish()
    second.folder.mkdir(parents=True)
    one_stage.share(first.folder, second.folder)
    before = {file: file.read_bytes() for file in first.folder.rglob("*") if file.is_file()}
    assert list(load_artefact(second.folder / "kmeans/labels_test.npy")) == [
        1,
        2,
    ] and stage_metrics(second.folder) == stage_metrics(first.folder)
    second.save("kmeans/labels_test.npy", np.array([9]))
    for _ in range(2):
        second.finish(note="once more")
    second.save("figures.csv", pd.DataFrame({"n": [1]}))
    assert stage_metrics(second.folder) is None, "what is saved after the end opens the stage again"
    second.finish()
    assert {
        file: file.read_bytes() for file in first.folder.rglob("*") if file.is_file()
    } == before and stage_metrics(first.folder)
    assert list(load_artefact(second.folder / "kmeans/labels_test.npy")) == [9] and list(
        load_artefact(second.folder / "grid/kmeans@pca2/labels_test.npy")
    ) == [3]


@pytest.mark.parametrize("written", ["a", "b"])
def test_a_stage_that_is_being_written_is_neither_shared_nor_cleared(
    written, tmp_path, monkeypatch
):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    first, second = stage_of("a"), stage_of("b")
    for stage in (first, second):
        stage.finish()
    writer = stage_of(written)
    writer.save("labels.npy", np.array([1]))
    (writer.folder / ".labels-x1.npy").write_text("half")
    asked = [
        ["share", first.folder / "metrics.json", second.folder / "metrics.json"],
        ["run", 0, "a.ipynb", writer.folder / "notebook.ipynb"],
    ]
    for words in asked:
        process = call("workflow/stage.py", *words)
        told = "is being written by another process; wait for it, or give another run name.\n"
        assert process.returncode == 1 and process.stderr == f"{writer.folder} {told}"
    left = {file.name for file in writer.folder.iterdir()} - {".lock"}
    assert left == {".labels-x1.npy", "labels.npy"}
    writer.finish()
    assert call("workflow/stage.py", *asked[0]).returncode == 0


def test_a_kernel_takes_no_port_that_another_may_have_been_given(tmp_path):
    "And what it talked through is gone when it ends."
    told = new_code_cell(
        "from ipykernel.connect import get_connection_info\n"
        "get_connection_info(unpack=True)['transport']"
    )
    nbformat.write(new_notebook(cells=[told]), tmp_path / "told.ipynb")
    done = call(
        "workflow/stage.py",
        "run",
        "0",
        tmp_path / "told.ipynb",
        tmp_path / "done.ipynb",
        "-k",
        "python3",
        "--no-progress-bar",
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert (
        nbformat.read(tmp_path / "done.ipynb", as_version=4).cells[-1].outputs[0].data["text/plain"]
        == "'ipc'"
    )
    left = {file.name for file in tmp_path.iterdir()} - {".lock"}
    assert left == {"told.ipynb", "done.ipynb"}


def test_status(small_runs, capsys):
    assert cli.main(["status"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^one, digits: 3 done; \d+ s so far$", shown, re.M)
    assert re.search(
        r"^broken, digits: 1 \w+, 1 \w+, 1 \w+; \d+ s so far\n"
        r"  seed=42/06_second +failed, see .*papermill.log$",
        shown,
        re.M,
    )
    assert cli.main(["status", "two"]) == 0
    shown = capsys.readouterr().out
    assert "broken" not in shown and re.search(r"^  09_evaluation +done, \d+ s$", shown, re.M)


def test_status_of_what_is_running_or_was_killed(small_runs, tmp_path, monkeypatch):
    base = tmp_path / "x" / "digits"
    shutil.copytree(small_runs / "one/digits", base)
    folder = base / "seed=42/06_second"
    (folder / "metrics.json").unlink()
    assert tables.state(folder, tables.since(base)) == ("interrupted", None)
    lock = run_book.hold(base)
    os.utime(folder / "papermill.log")
    what, seconds = tables.state(folder, tables.since(base))
    assert what == "running" and seconds > 0
    os.utime(folder / "papermill.log", (1, 1))
    assert tables.state(folder, tables.since(base))[0] == "waiting", (
        "the log is from a run before this one"
    )
    lock.release()


def test_collect(small_runs, capsys, tmp_path):
    assert cli.main(["collect", "--out", str(tmp_path / "all")]) == 0
    table = pd.read_csv(tmp_path / "all.csv").set_index("run")
    assert (
        list(table.index) == ["one", "two"]
        and list(table["06_second.factor"]) == [2, 3]
        and "03_first.n" not in table
    )
    assert (
        table.acc_train_mapping["two"] == pytest.approx(1.5 * table.acc_train_mapping["one"])
        and json.loads(table.f1["one"])[0] == table.nmi["one"]
    )
    if (tmp_path / "all.parquet").exists():
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / "all.parquet").set_index("run"), table, check_dtype=False
        )
    else:
        assert "pip install pyarrow" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


def test_compare(small_runs, capsys):
    assert cli.main(["compare", "one", "two"]) == 0
    shown = capsys.readouterr().out
    assert "06_second.factor: 2.0 / 3.0" in shown and "A is one, B is two" in shown
    assert len([line for line in shown.splitlines() if line.strip().startswith("scaled")]) == 3


def test_a_difference_is_paired_over_seeds():
    a, b = pd.Series({1: 0.5, 2: 0.6, 3: 0.9}), pd.Series({2: 0.7, 3: 0.8, 4: 0.1})
    mean, half = tables.paired(a, b)
    # t(1) at 97.5 % is 12.7062; the differences are 0.1 and -0.1
    assert mean == pytest.approx(0) and half == pytest.approx(12.7062 * 0.1, abs=1e-4)
    assert tables.paired(a, b[[2]]) == (pytest.approx(0.1), None) and tables.paired(a, b[[4]]) == (
        None,
        None,
    )


@pytest.mark.parametrize(
    "words, told",
    [
        (["status", "none"], "there is no run 'none' in "),
        (["collect", "none"], "there are: broken, one, two."),
        (["compare", "one", "none"], "there is no run 'none' in "),
        (
            ["compare", "one", "broken"],
            "broken has no evaluation on digits yet; `fmnist-cluster status` shows",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_runs_that_are_not_there(words, told, small_runs):
    assert told in cli.main(words) and "\n" not in cli.main(words)


def test_status_without_a_run_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.startswith("There is no run in ")


@pytest.mark.parametrize("command", ["run", "sweep", "status"])
def test_without_snakemake_the_command_says_so(command, monkeypatch):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    said = cli.main([command, "table.csv"] if command == "sweep" else [command])
    assert "pip install 'fmnist_cluster[run]'" in said and "\n" not in said


def test_outside_a_checkout_the_command_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "fmnist_cluster" / "cli.py"))
    monkeypatch.chdir(tmp_path)
    for words in (["run"], ["sweep", "table.csv"], ["status"]):
        assert "lies in no checkout of fmnist_cluster; go into one" in cli.main(words)
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--help"])
    assert ended.value.code == 0


# the table of a sweep

HEAD = "run,dataset,preset,seeds,06_dec_idec.gamma\n"


@pytest.mark.parametrize(
    "text, told",
    [
        (
            "run,dataset,06_dec_idec.gama\na,digits,1\n",
            "run 1: unknown parameter '06_dec_idec.gama'; 06_dec_idec has ",
        ),
        (
            "run,dataset,06_dec_idec.seed\na,digits,1\n",
            "run 1: unknown parameter '06_dec_idec.seed'; ",
        ),
        (
            "run,data\na,digits\n",
            "run 1: 'data' names no chapter; "
            "expected run, dataset, preset, seeds or <chapter>.<parameter>",
        ),
        (
            HEAD + "a,digits,quick,42,much\n",
            "run 1: 06_dec_idec.gamma is 'much'; expected float, such as 0.1.",
        ),
        (
            "run,dataset,06_dec_idec.max_iter\na,digits,2.5\n",
            "run 1: 06_dec_idec.max_iter is '2.5'; expected int, such as 10000.",
        ),
        (HEAD + ",digits,quick,42,\n", "run 1: no name in the column run"),
        (
            HEAD + "a,digits,quick,42,\na,digits,quick,1,.5\n",
            "a on digits stands there more than once",
        ),
        (HEAD + "a,digits,quick,42,1,0.5\n", "run 1: more cells than columns; put lists"),
        (HEAD, "holds no run; expected a line a run"),
        (HEAD + "a,digits,fast,42,\n", "PRESET is 'fast'; expected one of full, "),
        (HEAD + "a,digits,quick,42 -1,\n", "SEED is '-1'; expected a whole number"),
        (HEAD + "a,cifar,quick,42,\n", "DATASET is 'cifar'; expected one of"),
        (HEAD + "../a,digits,quick,42,\n", "run is '../a'; expected at most 100 letters"),
    ],
)
def test_a_table_that_cannot_be_used(text, told, monkeypatch, tmp_path):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path / "runs"))
    (tmp_path / "sweep.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        run_book.sweep(tmp_path / "sweep.csv")
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "runs").glob("*"))


def test_a_table_that_is_not_there():
    with pytest.raises(InputError, match="none.csv cannot be read .*; expected a table of runs"):
        run_book.sweep("none.csv")


@pytest.mark.parametrize(
    "change, told",
    [
        ("gamma=1", "'gamma' names no chapter"),
        ("06_dec_idec.gamma", "expected <chapter>.<parameter>=<value>"),
    ],
)
def test_an_override_that_cannot_be_used(change, told):
    with pytest.raises(InputError, match=told):
        run_book.main("quick", ["42"], "digits", "", False, changes=[change])


def test_csv_and_yaml_say_the_same(tmp_path):
    (tmp_path / "a.csv").write_text(
        "run,dataset,preset,seeds,06_dec_idec.gamma,04_autoencoder.hidden,04_autoencoder.optimizer\n"
        'x,digits,quick,42 1,1e-3,"[8, 4]",adam\ny,mnist,full,"2,3",1,,\n'
    )
    runs = graph.read_sweep(tmp_path / "a.csv")
    graph.write_sweep(tmp_path / "a.yaml", runs)
    for run, again in zip(runs, graph.read_sweep(tmp_path / "a.yaml"), strict=True):
        assert vars(run) == vars(again)
    assert runs[0].seeds == ("42", "1") and runs[0].changes == {
        "06_dec_idec": {"gamma": 0.001},
        "04_autoencoder": {"hidden": [8, 4], "optimizer": "adam"},
    }
    assert (
        runs[1].seeds == ("2", "3")
        and runs[1].changes == {"06_dec_idec": {"gamma": 1.0}}
        and runs[1].preset == "full"
    )
    assert (
        runs[0].parameters("06_dec_idec")["max_iter"]
        == graph.parameters("06_dec_idec", "quick")["max_iter"]
    )


def test_the_committed_table_can_be_used():
    runs = graph.read_sweep(run_book.ROOT / "params/sweep.csv")
    shared = graph.owners(runs)
    assert (
        len(runs) > 1
        and all("06_dec_idec" not in stage for stage in shared)
        and all(stage.split("/")[2:] == owner.split("/")[2:] for stage, owner in shared.items())
    )


def test_only_what_is_equal_is_shared():
    line = lambda run, **more: graph.as_run(
        {"run": run, "dataset": "digits", "preset": "quick", "seeds": [1]} | more, "here"
    )
    base, same = line("a"), line("b", seeds=[1, 2])
    assert set(graph.owners([base, same])) == {
        f"b/digits/seed=1/{chapter}"
        for chapter, record in graph.CHAPTERS.items()
        if not record["over_seeds"]
    }
    other = graph.owners([base, line("b", **{"04_autoencoder.epochs": 7})])
    assert (
        not {
            f"b/digits/seed=1/{chapter}"
            for chapter in ("04_autoencoder", "05_ae_kmeans", "06_dec_idec")
        }
        & set(other)
        and "b/digits/seed=1/03_baseline" in other
    )
    assert (
        graph.owners(
            [base, line("b", dataset="mnist"), line("c", preset="full"), line("d", seeds=[2])]
        )
        == {}
    )


# machines


def test_one_job_a_gpu(tmp_path, monkeypatch):
    "A second job takes the second GPU, a third waits for one; a lock goes with its process."
    monkeypatch.setattr(one_stage.tempfile, "gettempdir", lambda: str(tmp_path))
    (first, lock), (second, _other) = (one_stage.hold_gpu(["GPU-a", "GPU-b"]) for _ in range(2))
    assert (first, second) == ("GPU-a", "GPU-b")
    # while the third waits, the first ends
    monkeypatch.setattr(one_stage.time, "sleep", lambda _: lock.release())
    assert one_stage.hold_gpu(["GPU-a", "GPU-b"])[0] == "GPU-a" and not lock.is_locked


@pytest.mark.parametrize(
    "allowed, expected",
    [
        (None, ["GPU-a", "GPU-b"]),
        ("1", ["GPU-b"]),
        ("GPU-b,GPU-a", ["GPU-b", "GPU-a"]),
        ("MIG-x", ["MIG-x"]),
        ("", []),
    ],
)
def test_only_gpus_that_may_be_used(allowed, expected, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0, GPU-a\\n1, GPU-b\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert one_stage.visible_gpus() == expected
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert one_stage.visible_gpus() == []
