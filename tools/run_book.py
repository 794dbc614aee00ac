"Run the book: refuse what cannot work, let Snakemake make what is missing, show the comparison table."
import argparse
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]

from book import PRESETS, READS, STUDIES, needed, parameters, seed_folder

from fmnist_cluster.core import InputError, changed_parameters, completed, load_artefact, pick_device, runs_root, stage_folder
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


def check(preset, seeds, chapters):
    "Refuse a preset, a seed, a study or a device that is not there."
    for chapter in chapters:
        if chapter not in READS | STUDIES: raise InputError(f"STUDIES names {chapter!r}; expected some of {', '.join(STUDIES) or 'none, as there is no study yet'}.")
    if preset not in PRESETS: raise InputError(f"PRESET is {preset!r}; expected one of {', '.join(PRESETS)}.")
    for seed in seeds:
        if not (seed.isdecimal() and seed == str(int(seed)) and int(seed) < 2**32):
            raise InputError(f"SEED is {seed!r}; expected a whole number from 0 to 2**32 - 1, or several with commas between.")
    for chapter in chapters: pick_device(parameters(chapter, preset)["device"])


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


def expected_seconds(chapter, preset, dataset):
    "What a chapter took the last times here, else in the reference run; None where nobody knows."
    folders = [folder for folder in runs_root().glob(f"*/{dataset}/{seed_folder('*', chapter)}") if (folder / "benchmark.tsv").exists()]
    seconds = [pd.read_csv(folder / "benchmark.tsv", sep="\t").s[0] for folder in folders if ((completed(folder) or {}).get("provenance") or {}).get("preset") == preset]
    for record in load_artefact(ROOT / "results" / "reference" / "chapters.json"):
        if not seconds and (record["chapter"], record["preset"], record["dataset"]) == (chapter, preset, dataset): seconds = [record["wall_seconds"]]
    return float(pd.Series(seconds).median()) if seconds else None


def forecast(base, stages, preset, dataset):
    "What is done already and how long the rest will take, one line a stage."
    times = {folder: 0 if completed(folder) else expected_seconds(chapter, preset, dataset) for folder, chapter in stages}
    say = {0: "done", None: "to do, nobody knows how long"}
    lines = [f"  {str(folder.relative_to(base)):<32}{say.get(seconds) or f'to do, about {seconds:.0f} s'}" for folder, seconds in times.items()]
    unknown = list(times.values()).count(None)
    return "\n".join([*lines, f"  in all about {sum(filter(None, times.values())):.0f} s" + (f" and what the {unknown} unknown take" if unknown else "")])


def reason(folder):
    "Why a stage failed, in one line: the error in its notebook, else the last words of its log."
    notebook, log = folder / "notebook.ipynb", folder / "papermill.log"
    try: cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError): cells = []                            # not begun, or papermill was killed while it wrote
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


def main(preset, seeds, dataset, run, force, studies=None):
    "Run the book, or these studies (all if the list is empty), and say how it went; returns the exit code."
    if studies is not None and not (studies or STUDIES): raise InputError("there is no study yet; add one to STUDIES in workflow/book.py.")
    chapters = list(READS) if studies is None else needed(studies or STUDIES)
    check(preset, seeds, chapters)
    asked, dataset, run = dataset, pick_dataset(dataset), run or preset
    notice = LOUD if dataset == "digits" and not asked else ""
    base = stage_folder(run, dataset, None, "book").parent
    stages = list(dict.fromkeys((base / seed_folder(seed, chapter), chapter) for chapter in chapters for seed in seeds))
    lock = hold(base)                                                       # noqa: F841, held until we end
    clear_way(stages, preset, force)
    print(f"{notice}{len(chapters)} chapters on {dataset}, preset {preset}, seed {', '.join(seeds)}, in {base}", flush=True)
    if studies is not None: print(forecast(base, stages, preset, dataset), flush=True)
    config, started = [f"run={run}", f"dataset={dataset}", f"preset={preset}", f"seeds='{','.join(seeds)}'"], time.time()
    target = [] if studies is None else ["studies"]
    if target: config.append(f"studies={' '.join(studies or STUDIES)}")
    with open(base / "snakemake.log", "w") as log:
        ended = subprocess.run([sys.executable, "-m", "snakemake", *target, "-s", "workflow/Snakefile", *OPTIONS, "--config", *config], stderr=log, cwd=ROOT)
    if ended.returncode:
        report_failure(base, stages, started)
        return 1
    print(f"\n{dataset}, test images, after {time.time() - started:.0f} s:\n" if studies is None else f"\nDone after {time.time() - started:.0f} s:\n")
    if studies is None: print(pd.read_csv(base / "08_evaluation" / "comparison.csv").round(3).to_string(index=False, na_rep=""))
    else: print("\n".join(str(folder) for folder, chapter in stages if chapter in STUDIES))
    print(notice + (f"\nReport: {base / 'report.html'}" if studies is None else ""))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", default="42", type=lambda text: text.split(","), help="one seed, or several with commas between")
    parser.add_argument("--dataset", default="", help="digits stand in where none is given and Fashion-MNIST cannot be had")
    parser.add_argument("--run", default="", help="name of the run; the preset's name if none is given")
    parser.add_argument("--studies", nargs="*", help="run these studies, all if none is named, in place of the book")
    parser.add_argument("--force", action="store_true", help="make stages again that are complete with other parameters")
    try: sys.exit(main(**vars(parser.parse_args())))
    except InputError as error: sys.exit(str(error))
