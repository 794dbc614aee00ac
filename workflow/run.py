"Run the book, a sweep of it, or studies: refuse what cannot work, call Snakemake, show the end."

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import torch
from book import CHAPTERS, PRESETS, ROOT, as_run, chapters, needed, read_sweep, write_sweep

from fmnist_cluster import saving
from fmnist_cluster.core import InputError, pick_device
from fmnist_cluster.data import _IDX_SETS, DATASETS, find_file, load_images
from fmnist_cluster.runs import changed_parameters, runs_root, stage_folder, stage_metrics
from fmnist_cluster.saving import load_artefact

LOUD = (
    "\n*** Fashion-MNIST was neither found nor could it be downloaded: "
    "these are scikit-learn's small digits (dataset=digits). ***\n"
)
OPTIONS = [
    "--quiet",
    "all",
    "--nolock",
    "--rerun-incomplete",
    "--keep-going",
    "--rerun-triggers",
    "mtime",
    "params",
]
PROFILES = ROOT / "workflow" / "profiles"
HERE = {"local", "gpu"}  # the profiles that stay on this machine


def pick_dataset(asked):
    "Check the data set's files; digits stand in only where nobody asked and no file is there."
    name = asked or "fashion_mnist"
    if name not in DATASETS:
        raise InputError(f"DATASET is {name!r}; expected one of {', '.join(DATASETS)}.")
    try:
        for filename, _ in getattr(_IDX_SETS.get(name), "resources", ()):
            find_file(name, filename)
        if name not in {*_IDX_SETS, "digits"}:
            load_images(name, "test")
    except InputError as refusal:
        # a folder that was named is never answered with other data, nor a damaged file
        named = asked or os.environ.get("FMNIST_CLUSTER_DATA")
        if named or "was not found" not in str(refusal):
            raise
        return "digits"
    return name


def check(run, wanted, here):
    "Refuse a preset, a seed or a device (if the work is done `here`) that is not there."
    if run.preset not in PRESETS:
        raise InputError(f"PRESET is {run.preset!r}; expected one of {', '.join(PRESETS)}.")
    for seed in run.seeds:
        if not (seed.isdecimal() and seed == str(int(seed)) and int(seed) < 2**32):
            raise InputError(
                f"SEED is {seed!r}; expected a whole number from 0 to 2**32 - 1, "
                "or several with commas between."
            )
    for chapter in wanted if here else ():
        pick_device(run.parameters(chapter)["device"])


def hold(base):
    "Keep the run's folder for this process, until it ends, however it ends."
    busy = f"{base} is in use by another `make run`; wait for it, or give another RUN=<name>."
    lock = saving.hold(base / ".lock", busy)
    os.utime(base / ".lock")  # `status` reads from it since when we work
    return lock


def clear_way(run, stages, force):
    "Refuse stages that are complete with other parameters; with `force` open them again."
    for folder, chapter in stages:
        changed = changed_parameters(folder, run.parameters(chapter))
        if changed and not force:
            differences = ", ".join(
                f"{name}={there!r} (now {asked!r})" for name, (there, asked) in changed.items()
            )
            raise InputError(
                f"{folder} is complete with {differences}; "
                "give another RUN=<name>, or FORCE=1 to make it again."
            )
        if changed:
            (folder / "metrics.json").unlink()


def expected_seconds(chapter, preset, dataset):
    "Tell what a chapter took the last times here, else in the reference run; None if unknown."
    folders = [
        folder
        for folder in runs_root().glob(f"*/{dataset}/*/{chapter}")
        if (folder / "benchmark.tsv").exists()
    ]
    seconds = [
        pd.read_csv(folder / "benchmark.tsv", sep="\t").s[0]
        for folder in folders
        if ((stage_metrics(folder) or {}).get("provenance") or {}).get("preset") == preset
    ]
    for record in load_artefact(ROOT / "results" / "reference" / "chapters.json"):
        if not seconds and (record["chapter"], record["preset"], record["dataset"]) == (
            chapter,
            preset,
            dataset,
        ):
            seconds = [record["wall_seconds"]]
    return float(pd.Series(seconds).median()) if seconds else None


def forecast(base, stages, preset, dataset):
    "Say what is done already and how long the rest will take, one line a stage."
    times = {
        folder: 0 if stage_metrics(folder) else expected_seconds(chapter, preset, dataset)
        for folder, chapter in stages
    }
    say = {0: "done", None: "to do, nobody knows how long"}
    lines = [
        f"  {str(folder.relative_to(base)):<32}"
        + (say.get(seconds) or f"to do, about {seconds:.0f} s")
        for folder, seconds in times.items()
    ]
    unknown = list(times.values()).count(None)
    return "\n".join(
        [
            *lines,
            f"  in all about {sum(filter(None, times.values())):.0f} s"
            + (f" and what the {unknown} unknown take" if unknown else ""),
        ]
    )


def reason(folder):
    "Say why a stage failed: the error in its notebook and its cell, else its log's last words."
    notebook, log = folder / "notebook.ipynb", folder / "papermill.log"
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError):
        cells = []  # not begun, or papermill was killed while it wrote
    for cell in cells:
        for error in (
            output for output in cell.get("outputs", []) if output.output_type == "error"
        ):
            code = [
                line
                for line in cell.source.splitlines()
                if line.strip() and not line.startswith("#|")
            ]
            return (
                f"{error.ename}: {error.evalue}".splitlines()[0]
                + f"\n  cell     [{cell.execution_count}] {(code or ['empty'])[0]}  (id {cell.id})"
            )
    return ([line for line in log.read_text().splitlines() if line.strip()] or ["it left no word"])[
        -1
    ]


def report_failures(stages, started, log):
    "Name each stage that failed since `started`, and where to look."
    failed = [
        (folder, chapter)
        for folder, chapter in stages
        if (folder / "papermill.log").exists()
        and not (folder / "metrics.json").exists()
        and (folder / "papermill.log").stat().st_mtime >= started
    ]
    for folder, chapter in failed:
        print(
            f"\n{chapter} failed: {reason(folder)}\n"
            f"  notebook {folder / 'notebook.ipynb'}\n"
            f"  log      {folder / 'papermill.log'}",
            file=sys.stderr,
        )
    if not failed:
        print(
            f"Snakemake could not finish; its words are in {log} "
            "and in the newest file of .snakemake/log",
            file=sys.stderr,
        )


def base_of(run):
    "Name the folder of a run on its data set."
    return stage_folder(run.run, run.dataset, None, "book").parent


def snakemake(target, config, profile, gpus, threads, log, locks):
    """Let Snakemake make what is missing; its exit code, or None if somebody stopped it.

    Elsewhere than here a training job gets 4 cores if nothing is said. Snakemake runs in a process
    group of its own, so that a stop (Ctrl-C, SIGTERM, a closed terminal) reaches it and its
    chapters once, from here; and it keeps the runs' folders as long as it lives.
    """

    def stop(*_):
        for number in before:
            signal.signal(
                number, signal.SIG_IGN
            )  # once is enough: a second one must not keep us from stopping the others
        raise KeyboardInterrupt

    folder, here = PROFILES / profile, profile in HERE
    machine = ["--resources", f"gpu={gpus}"] if here and gpus else []
    settings = [*(f"{name}={value}" for name, value in config.items()), f"gpus={gpus}"]
    if threads or not here:
        settings.append(f"threads={threads or 4}")
    words = [
        "-s",
        "workflow/Snakefile",
        "--profile",
        str(folder if folder.is_dir() else profile),
        *OPTIONS,
        *machine,
        "--config",
        *settings,
    ]
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    for number in before:
        signal.signal(number, stop)
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *target, *words],
            stderr=file,
            cwd=ROOT,
            process_group=0,
            # Snakemake holds the locks too, should this process be killed
            pass_fds=[fd for lock in locks if (fd := lock._context.lock_file_fd) is not None],
        )
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        return None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make(
    runs, force=False, studies=None, profile=None, gpus=None, threads=None, notice="", table=None
):
    "Make these runs, or studies for them (all if the list is empty), and say how it went."
    asked = chapters("main") if studies is None else studies or chapters("study")
    for chapter in asked:
        if chapter not in CHAPTERS:
            names = ", ".join(chapters("study", "appendix"))
            raise InputError(f"STUDIES names {chapter!r}; expected some of {names}.")
    wanted = needed(asked)
    if gpus is None:
        gpus = torch.cuda.device_count() if profile in (None, "gpu") else 0
    profile = profile or ("gpu" if gpus else "local")
    for run in runs:
        check(run, wanted, profile in HERE)
    bases = {run: base_of(run) for run in runs}
    places = {
        run: [
            (runs_root() / stage, chapter)
            for chapter in wanted
            for stage in dict.fromkeys(run.stage(chapter, seed) for seed in run.seeds)
        ]
        for run in runs
    }
    locks = [hold(base) for base in bases.values()]  # held until we and Snakemake have ended
    for run in runs:
        clear_way(run, places[run], force)
    for folder, _ in sum(places.values(), []):
        folder.parent.mkdir(exist_ok=True)  # from now on `status` knows the seeds
    for run in runs:
        print(
            f"{notice}{len(wanted)} chapters on {run.dataset}, preset {run.preset}, "
            f"seed {', '.join(run.seeds)}, in {bases[run]}",
            flush=True,
        )
        if studies is not None:
            print(forecast(bases[run], places[run], run.preset, run.dataset), flush=True)
    table = table or bases[runs[0]] / "snakemake.yaml"
    write_sweep(table, runs)  # as they are now: somebody may edit the table while we work
    config, log = {"sweep": table}, table.with_suffix(".log")
    if studies is not None:
        config["studies"] = " ".join(asked)
    started = time.time()
    code = snakemake(
        [] if studies is None else ["studies"], config, profile, gpus, threads, log, locks
    )
    if code is None:
        complete = [
            str(folder.relative_to(runs_root()))
            for folder, _ in sum(places.values(), [])
            if (folder / "metrics.json").exists()
        ]
        print(
            f"\nStopped after {time.time() - started:.0f} s. Complete in {runs_root()}: "
            f"{', '.join(complete) or 'nothing yet'}. The same command goes on from there.",
            file=sys.stderr,
        )
        return 130
    done = [
        run
        for run in runs
        if not code or all((folder / "metrics.json").exists() for folder, _ in places[run])
    ]
    if done:
        print(
            f"\n{', '.join({run.dataset: 0 for run in done})}, test images, "
            f"after {time.time() - started:.0f} s:\n"
            if studies is None
            else f"\nDone after {time.time() - started:.0f} s:\n"
        )
    for run in done:
        show(
            run,
            bases[run],
            []
            if studies is None
            else [folder for folder, chapter in places[run] if chapter in asked],
            len(runs) > 1,
        )
    if done and notice:
        print(notice)
    if code:
        report_failures(sum(places.values(), []), started, log)
    return int(bool(code))


def show(run, base, studies, several):
    "Print the comparison table of a finished run and its report, or the folders of its studies."
    if studies:
        return print(*studies, sep="\n")
    if several:
        print(f"{run.run}, {run.dataset}, seed {', '.join(run.seeds)}:\n")
    print(
        pd.read_csv(base / "09_evaluation" / "comparison.csv")
        .round(3)
        .to_string(index=False, na_rep="")
    )
    print(f"\nReport: {base / 'report.html'}\n")


def main(
    preset,
    seeds,
    dataset,
    run,
    force,
    studies=None,
    changes=(),
    profile=None,
    gpus=None,
    threads=None,
):
    "Make one run of the book; returns the exit code."
    asked, dataset, name = dataset, pick_dataset(dataset), run or preset
    line = {"run": name, "dataset": dataset, "preset": preset, "seeds": seeds}
    unused = [change for change in changes if "=" not in change]
    if unused:
        raise InputError(f"--set {unused[0]!r}; expected <chapter>.<parameter>=<value>.")
    try:
        run = as_run(line | dict(change.split("=", 1) for change in changes), "--set")
    except ValueError as error:
        raise InputError(error) from None
    return make(
        [run],
        force,
        studies,
        profile,
        gpus,
        threads,
        LOUD if dataset == "digits" and not asked else "",
    )


def sweep(table, force=False, studies=None, profile=None, gpus=None, threads=None):
    "Make all runs of a table; returns the exit code."
    try:
        runs = read_sweep(table)
    except ValueError as error:
        raise InputError(error) from None
    for dataset in {run.dataset for run in runs}:
        pick_dataset(dataset)
    runs_root().mkdir(parents=True, exist_ok=True)
    return make(
        runs,
        force,
        studies,
        profile,
        gpus,
        threads,
        table=runs_root() / f"{Path(table).stem}.sweep.yaml",
    )
