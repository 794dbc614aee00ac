"""Many runs: how far each is, all in one table, two side by side. Part of `fmnist-cluster`."""

import json
import time
from datetime import datetime
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from scipy import stats

from .core import InputError
from .runs import runs_root, stage_metrics
from .saving import atomic, load_artefact

SCORES = {"acc_train_mapping": "ACC (map from train)", "nmi": "NMI", "ari": "ARI"}


def bases(names=()):
    "List the folders runs/<run>/<dataset>/ of these runs, or of all."
    found: dict[str, list] = {}
    for folder in sorted(runs_root().glob("*/*/")):
        if next(folder.glob("seed=*"), None):
            found.setdefault(folder.parent.name, []).append(folder)
    for name in names:
        if name not in found:
            raise InputError(
                f"there is no run {name!r} in {runs_root()}; "
                f"there are: {', '.join(found) or 'none'}."
            )
    return [folder for name in (names or found) for folder in found[name]]


# status


def since(base):
    "Return when the process that works on a run began; None if nobody works on it."
    lock = base / ".lock"
    if not lock.exists():
        return None
    try:
        with FileLock(lock, timeout=0):
            return None
    except Timeout:
        return lock.stat().st_mtime
    except OSError:  # not ours to write to: nobody here works on it
        return None


def state(folder, began):
    "Return done, running, failed, interrupted or waiting, and the seconds so far if known."
    benchmark, log, notebook = (
        folder / "benchmark.tsv",
        folder / "papermill.log",
        folder / "notebook.ipynb",
    )
    if (folder / "metrics.json").exists():
        return "done", pd.read_csv(benchmark, sep="\t").s[0] if benchmark.exists() else None
    if not log.exists():
        return "waiting", None
    import nbformat  # the checkout's environment has it, the wheel's need not

    try:
        executed = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError):
        executed = nbformat.v4.new_notebook()  # papermill is writing it
    failed = any(
        output.output_type == "error"
        for cell in executed.cells
        for output in cell.get("outputs", [])
    )
    if failed or (began and log.stat().st_mtime < began):
        return ("failed" if failed else "waiting"), None
    if not began:
        return "interrupted", None
    start = executed.metadata.get("papermill", {}).get("start_time")
    return "running", time.time() - datetime.fromisoformat(start).timestamp() if start else None


def stages(base):
    "Return the state of each stage of a run: the main line's, and what else is there."
    from book import CHAPTERS, chapters, seed_folder

    began = since(base)
    seeds = sorted(int(folder.name[5:]) for folder in base.glob("seed=*"))
    places = {base / seed_folder(seed, chapter): chapter for chapter in CHAPTERS for seed in seeds}
    return {
        folder: state(folder, began)
        for folder, chapter in places.items()
        if chapter in chapters("main") or folder.exists()
    }


def status(names):
    "Print a line a run, and a line a stage that needs a look or whose run was named."
    found_runs = bases(names)
    if not found_runs:
        print(f"There is no run in {runs_root()} yet; `fmnist-cluster run` makes one.")
    for base in found_runs:
        found = stages(base)
        counts = pd.Series([what for what, _ in found.values()]).value_counts()
        seconds = sum(seconds for what, seconds in found.values() if what == "done" and seconds)
        print(
            f"{base.parent.name}, {base.name}: "
            + ", ".join(f"{count} {what}" for what, count in counts.items())
            + f"; {seconds:.0f} s so far"
        )
        for folder, (what, seconds) in found.items():
            if names or what in ("running", "failed", "interrupted"):
                print(
                    f"  {str(folder.relative_to(base)):<32}{what}"
                    + (f", {seconds:.0f} s" if seconds else "")
                    + (f", see {folder / 'papermill.log'}" if what == "failed" else "")
                )
    return 0


# collect


def metrics(base):
    "Yield seed (None over all seeds), chapter and facts of a run's complete stages."
    for file in sorted([*base.glob("seed=*/*/metrics.json"), *base.glob("[0-9]*/metrics.json")]):
        seed = file.parent.parent.name.partition("=")[2]
        yield int(seed) if seed else None, file.parent.name, stage_metrics(file.parent)


def parameters(base):
    "Return the parameters in force as columns `chapter.parameter`, a row a seed."
    rows: dict[int | None, dict] = {}
    for seed, chapter, facts in metrics(base):
        values = {
            f"{chapter}.{name}": json.dumps(value) if isinstance(value, (list, dict)) else value
            for name, value in facts["parameters"].items()
        }
        rows.setdefault(seed, {}).update(values)
    over_seeds = rows.pop(None, {})
    return pd.DataFrame([{"seed": seed} | values | over_seeds for seed, values in rows.items()])


def collected(folders):
    "Return a row for each record of these runs, with the parameters in which they differ."
    tables, settings = [], []
    for base in folders:
        if not (base / "evaluation_metrics.json").exists():
            continue
        place = {"run": base.parent.name, "dataset": base.name}
        tables.append(pd.DataFrame(load_artefact(base / "evaluation_metrics.json")).assign(**place))
        settings.append(parameters(base).assign(**place))
    if not tables:
        raise InputError(
            f"no run in {runs_root()} has an evaluation yet; "
            "`fmnist-cluster status` shows how far they are."
        )
    table, values = pd.concat(tables, ignore_index=True), pd.concat(settings, ignore_index=True)
    differ = [name for name in values if "." in name and values[name].nunique(dropna=False) > 1]
    table["f1"] = table.f1.map(json.dumps)  # a list, by class
    return table.merge(
        values[["run", "dataset", "seed", *differ]], how="left", on=["run", "dataset", "seed"]
    )[["run", *table.columns.drop("run"), *differ]]


def collect(names, out):
    "Write the collected table as CSV, and as parquet where pyarrow is installed."
    table, out = collected(bases(names)), Path(out) if out else runs_root() / "collected"
    with atomic(out.with_name(f"{out.name}.csv")) as file:
        table.to_csv(file, index=False)
    try:
        with atomic(out.with_name(f"{out.name}.parquet")) as file:
            table.to_parquet(file, index=False)
        written = ".csv and .parquet"
    except ImportError:
        written = ".csv (for parquet too: pip install pyarrow)"
    print(f"{len(table)} rows of {table.run.nunique()} runs in {out}{written}")
    return 0


# compare


def paired(a, b):
    "Return the mean of b - a over common seeds, and half its 95 % interval (None for one seed)."
    gain = (b - a).dropna()
    if gain.empty:
        return None, None
    half = (
        stats.t.ppf(0.975, len(gain) - 1) * gain.std() / len(gain) ** 0.5 if len(gain) > 1 else None
    )
    return gain.mean(), half


def comparison(a, b):
    "Return both means, the paired difference and its interval, for each method on test."
    rows = []
    for method in dict.fromkeys([*a.method, *b.method]):
        left, right = (
            table[(table.method == method) & (table.split == "test")].set_index("seed")
            for table in (a, b)
        )
        for score, name in SCORES.items():
            difference, half = paired(left[score], right[score])
            rows.append(
                {
                    "method": method,
                    "score": name,
                    "A": left[score].mean(),
                    "B": right[score].mean(),
                    "B - A": difference,
                    "±": half,
                    "paired seeds": len(left.index.intersection(right.index)),
                }
            )
    return pd.DataFrame(rows)


def compare(a, b):
    "Show in which parameters two runs differ, and their scores side by side."
    left, right = ({base.name: base for base in bases([name])} for name in (a, b))
    both = [name for name in left if name in right]
    if not both:
        raise InputError(
            f"{a} ran on {', '.join(left)} and {b} on {', '.join(right)}; "
            "expected a data set that both ran on."
        )
    for dataset in both:
        table = collected(dict.fromkeys([left[dataset], right[dataset]]))
        if table.run.nunique() < len({a, b}):
            raise InputError(
                f"{({a, b} - set(table.run)).pop()} has no evaluation on {dataset} yet; "
                "`fmnist-cluster status` shows how far it is."
            )
        print(
            f"\n{dataset}: A is {a}, B is {b}; "
            "± is the 95 % interval of the paired difference over seeds\n"
        )
        for name in table.columns[table.columns.str.contains(r"^\d\d_", regex=True)]:
            print(
                f"  {name}: "
                + " / ".join(
                    ", ".join(map(str, pd.unique(table[table.run == run][name]))) for run in (a, b)
                )
            )
        print(
            comparison(table[table.run == a], table[table.run == b])
            .round(3)
            .to_string(index=False, na_rep="")
        )
    return 0
