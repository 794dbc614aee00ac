"Run the book: refuse what cannot work, let Snakemake make what is missing, show the comparison table."
import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]

from book import PRESETS, READS, parameters, seed_folder

from fmnist_cluster.core import InputError, changed_parameters, pick_device, stage_folder
from fmnist_cluster.data import _IDX_SETS, DATASETS, data_folders, find_file

LOUD = "\n*** Fashion-MNIST was neither found nor could it be downloaded: these are scikit-learn's small digits (dataset=digits). ***\n"
OPTIONS = ["--cores", "all", "--quiet", "all", "--nolock", "--rerun-incomplete", "--keep-going", "--rerun-triggers", "mtime", "params", "input"]


def pick_dataset(asked):
    "The data set, its files checked; digits stand in for Fashion-MNIST only where nobody asked for it and no file of it is there."
    name = asked or "fashion_mnist"
    if name not in DATASETS: raise InputError(f"DATASET is {name!r}; expected one of {', '.join(DATASETS)}.")
    try:
        for filename, _ in getattr(_IDX_SETS.get(name), "resources", ()): find_file(name, filename)
    except InputError:
        if asked or any(any(folder.glob("FashionMNIST/raw/*.gz")) for folder in data_folders()): raise
        return "digits"
    return name


def check(preset, seeds):
    "Refuse a preset, a seed or a device that is not there."
    if preset not in PRESETS: raise InputError(f"PRESET is {preset!r}; expected one of {', '.join(PRESETS)}.")
    for seed in seeds:
        if not (seed.isdecimal() and seed == str(int(seed)) and int(seed) < 2**32):
            raise InputError(f"SEED is {seed!r}; expected a whole number from 0 to 2**32 - 1, or several with commas between.")
    for chapter in READS: pick_device(parameters(chapter, preset)["device"])


def hold(base):
    "Keep the run's folder for this process; the system lets go of the lock however the process ends."
    try:
        base.mkdir(parents=True, exist_ok=True)
        lock = open(base / ".lock", "w")
    except OSError as error:
        raise InputError(f"{base} cannot be written ({error.strerror}); choose another folder by FMNIST_CLUSTER_RUNS.") from None
    try: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: raise InputError(f"{base} is in use by another `make run`; wait for it, or give another RUN=<name>.") from None
    return lock


def clear_way(stages, preset, force):
    "Refuse to overwrite a stage that is complete with other parameters; with `force` make it incomplete instead."
    for folder, chapter in stages:
        changed = changed_parameters(folder, parameters(chapter, preset))
        if changed and not force:
            differences = ", ".join(f"{name}={there!r} (now {asked!r})" for name, (there, asked) in changed.items())
            raise InputError(f"{folder} is complete with {differences}; give another RUN=<name>, or FORCE=1 to make it again.")
        if changed: (folder / "metrics.json").unlink()


def reason(folder):
    "Why a stage failed, in one line: the error in its notebook, else the last words of its log."
    notebook, log = folder / "notebook.ipynb", folder / "papermill.log"
    cells = nbformat.read(notebook, as_version=4).cells if notebook.exists() else []
    errors = [output for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"]
    if errors: return f"{errors[0].ename}: {errors[0].evalue}".splitlines()[0]
    return ([line for line in log.read_text().splitlines() if line.strip()] or ["it left no word"])[-1]


def report_failure(base, stages, started):
    "Name each chapter that failed since `started`, and where to look."
    logs = [(folder, chapter) for folder, chapter in stages if (folder / "papermill.log").exists()]
    failed = [(folder, chapter) for folder, chapter in logs
              if not (folder / "metrics.json").exists() and (folder / "papermill.log").stat().st_mtime >= started]
    for folder, chapter in failed:
        print(f"\n{chapter} failed: {reason(folder)}\n  notebook {folder / 'notebook.ipynb'}\n  log      {folder / 'papermill.log'}", file=sys.stderr)
    if not failed: print(f"Snakemake could not finish; its words are in {base / 'snakemake.log'}", file=sys.stderr)


def snakemake(config, log, lock):
    """Let Snakemake make what is missing; its exit code, or None if somebody stopped it (Ctrl-C, SIGTERM, a closed terminal).

    It runs in a process group of its own, so that a stop reaches it and its chapters once, from here; and it keeps the run's folder as long as it lives.
    """
    def stop(*_): raise KeyboardInterrupt
    words = [sys.executable, "-m", "snakemake", "-s", "workflow/Snakefile", *OPTIONS, "--config", *config]
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    process = subprocess.Popen(words, stderr=log, cwd=ROOT, process_group=0, pass_fds=[lock.fileno()])
    try: return process.wait()
    except KeyboardInterrupt:
        for number in before: signal.signal(number, signal.SIG_IGN)
        os.killpg(process.pid, signal.SIGINT)
        try: process.wait(30)
        except subprocess.TimeoutExpired: os.killpg(process.pid, signal.SIGKILL)
        return None
    finally:
        for number, handler in before.items(): signal.signal(number, handler)


def main(preset, seeds, dataset, run, force):
    "Run the book and say how it went; returns the exit code."
    check(preset, seeds)
    asked, dataset, run = dataset, pick_dataset(dataset), run or preset
    notice = LOUD if dataset == "digits" and not asked else ""
    base = stage_folder(run, dataset, None, "book").parent
    stages = list(dict.fromkeys((base / seed_folder(seed, chapter), chapter) for chapter in READS for seed in seeds))
    lock = hold(base)                                                       # held until we and Snakemake have ended
    clear_way(stages, preset, force)
    print(f"{notice}{len(READS)} chapters on {dataset}, preset {preset}, seed {', '.join(seeds)}, in {base}", flush=True)
    config, started = [f"run={run}", f"dataset={dataset}", f"preset={preset}", f"seeds='{','.join(seeds)}'"], time.time()
    with open(base / "snakemake.log", "w") as log: ended = snakemake(config, log, lock)
    if ended is None:
        complete = [str(folder.relative_to(base)) for folder, _ in stages if (folder / "metrics.json").exists()]
        print(f"\nStopped after {time.time() - started:.0f} s. Complete in {base}: {', '.join(complete) or 'nothing yet'}. The same command goes on from there.", file=sys.stderr)
        return 130
    if ended:
        report_failure(base, stages, started)
        return 1
    print(f"\n{dataset}, test images, after {time.time() - started:.0f} s:\n")
    print(pd.read_csv(base / "08_evaluation" / "comparison.csv").round(3).to_string(index=False, na_rep=""))
    print(f"{notice}\nReport: {base / 'report.html'}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", default="42", type=lambda text: text.split(","), help="one seed, or several with commas between")
    parser.add_argument("--dataset", default="", help="digits stand in where none is given and Fashion-MNIST cannot be had")
    parser.add_argument("--run", default="", help="name of the run; the preset's name if none is given")
    parser.add_argument("--force", action="store_true", help="make stages again that are complete with other parameters")
    try: sys.exit(main(**vars(parser.parse_args())))
    except InputError as error: sys.exit(str(error))
