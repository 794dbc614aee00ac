"""The command `fmnist-cluster`: name pictures; run the book, and see how far it is; compare runs.

Each command imports what it needs when it is called, so that `predict` answers at once. `run`,
`sweep` and `status` need a checkout, where the notebooks and the workflow are.
"""

import argparse
import csv
import importlib.util
import json
import os
import sys
from pathlib import Path

from . import __version__

# predict


def shown(name):
    "Return a file's name on one line of any terminal."
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


def line(row):
    "Return name, class and alternatives of one picture in a line."
    first, *others = [
        f"{each['class']} {each['probability']:.2f}" for each in (row, *row["alternatives"])
    ]
    return f"{shown(row['file'])}: {first}" + (f" ({', '.join(others)})" if others else "")


def write_table(file, rows):
    "Write a row a picture: its file, then class and probability of the best three."
    head = ["file", "class", "probability"]
    head += ["second", "second_probability", "third", "third_probability"]
    with open(file, "w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(head)
        for row in rows:
            best = [(each["class"], each["probability"]) for each in (row, *row["alternatives"])]
            writer.writerow([shown(row["file"]), *sum(best, ())])


def predict(pictures, model=None, as_json=False, table=None):
    "Print what the pictures show, remarks to stderr; 1 if one could not be used, else 0."
    from .applications import list_files, load_classifier, predict_pictures

    classifier, names = load_classifier(model)
    files = list(list_files(pictures))
    if not files:
        raise ValueError(f"there is no file in {', '.join(pictures)}.")
    rows = []
    for row in predict_pictures(files, classifier, names):
        if told := row.get("error") or row.get("remark"):
            print(f"{shown(row['file'])}: {told}", file=sys.stderr)
        if not as_json and "error" not in row:
            print(line(row))
        rows.append(row)
    read = [row for row in rows if "error" not in row]
    if as_json:
        print(json.dumps(rows, indent=1))
    if table:
        write_table(table, read)
    return int(len(read) < len(rows))


# run, sweep and status


def workflow():
    "Return the checkout's module `run`; ValueError outside a checkout or without what it needs."
    from .core import project_root

    here = Path(__file__).resolve().parent.parent  # the checkout, if the package lies in one
    for root in (here, project_root()):
        if (root / "workflow" / "Snakefile").exists():
            break
    else:
        raise ValueError(
            f"{Path.cwd()} lies in no checkout of fmnist_cluster; go into one: "
            "the notebooks and the workflow are there."
        )
    missing = [
        name
        for name in ("snakemake", "papermill", "nbformat")
        if not importlib.util.find_spec(name)
    ]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} cannot be found; install what runs the book: "
            "pip install 'fmnist_cluster[run]'"
        )
    sys.path.insert(0, str(root / "workflow"))
    import run

    return run


def from_root(profile):
    "Step into the checkout, so that paths read as for `make`; its module `run` and the profile."
    book = workflow()
    if profile and Path(profile).is_dir():
        profile = str(Path(profile).resolve())
    if os.environ.get("FMNIST_CLUSTER_RUNS"):
        os.environ["FMNIST_CLUSTER_RUNS"] = str(Path(os.environ["FMNIST_CLUSTER_RUNS"]).resolve())
    os.chdir(book.ROOT)
    data = book.ROOT.parent / "shared" / "data"  # where the Makefile looks too
    if data.is_dir():
        os.environ.setdefault("FMNIST_CLUSTER_DATA", str(data))
    return book, profile


def run(profile, **given):
    "Make one run of the book; the exit code."
    book, profile = from_root(profile)
    return book.main(profile=profile, **given)


def sweep(table, profile, **given):
    "Make all runs of a table; the exit code."
    table = Path(table).resolve()
    book, profile = from_root(profile)
    return book.sweep(table, profile=profile, **given)


def status(names):
    "Show what is done, running and failed; the exit code."
    workflow()
    from . import tables

    return tables.status(names)


# collect and compare


def collect(names, out):
    "Write one table of all runs; the exit code."
    from . import tables

    return tables.collect(names, out)


def compare(a, b):
    "Show two runs side by side; the exit code."
    from . import tables

    return tables.compare(a, b)


# the command line


def seeds(text):
    "Return one seed, or several with commas between, as a list of words."
    return text.split(",")


def run_options(parser):
    "Add what one run is made of."
    add = parser.add_argument
    add("--preset", default="quick", help="quick, full or gpu (default: quick)")
    add("--seeds", default="42", type=seeds, help="one, or several with commas (default: 42)")
    add("--dataset", default="", help="default: Fashion-MNIST, or digits where it cannot be had")
    add("--run", default="", help="name of the run (default: the preset's name)")
    add(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="CHAPTER.PARAMETER=VALUE",
        help="override a parameter, e.g. 06_dec_idec.gamma=0.2",
    )
    work_options(parser)


def work_options(parser):
    "Add what `run` and `sweep` have in common."
    add = parser.add_argument
    add(
        "--studies",
        nargs="*",
        metavar="STUDY",
        help="run these studies, all if none is named, in place of the book",
    )
    add("--force", action="store_true", help="make stages again that have other parameters")
    add(
        "--profile",
        help="where the work is done: a name in workflow/profiles, or a folder with a profile of "
        "yours (default: gpu or local, as the machine is)",
    )
    add(
        "--gpus",
        type=int,
        help="GPUs of this machine to be used (default: all); elsewhere 1 asks for one a job",
    )
    add("--threads", type=int, help="cores of a training job")


def sweep_options(parser):
    "Add the table, and what `run` takes too."
    parser.add_argument(
        "table",
        help="CSV or YAML, a line a run: run, dataset, preset, seeds, <chapter>.<parameter>",
    )
    work_options(parser)


def predict_options(parser):
    "Add the pictures, and the form of the answer."
    add = parser.add_argument
    add("pictures", nargs="+", metavar="PICTURE", help="image files, or folders of them")
    add("--model", metavar="FOLDER", help="a saved classifier (default: the package's own)")
    add("--json", action="store_true", dest="as_json", help="print one list of objects")
    add("--csv", metavar="FILE", dest="table", help="write a table too, a row a picture")


def status_options(parser):
    "Add the runs that are meant."
    parser.add_argument("names", nargs="*", metavar="RUN", help="these runs only")


def collect_options(parser):
    "Add the runs that are meant, and where to write."
    status_options(parser)
    parser.add_argument("--out", help="file, without ending (default: collected, beside the runs)")


def compare_options(parser):
    "Add the two runs."
    parser.add_argument("a", metavar="A", help="name of a run")
    parser.add_argument("b", metavar="B", help="name of another")


COMMANDS = {
    predict: (predict_options, "what pictures show: a class, its probability, two alternatives"),
    run: (run_options, "one run of the book"),
    sweep: (sweep_options, "all runs of a table, e.g. params/sweep.csv"),
    status: (status_options, "what is done, running and failed"),
    collect: (collect_options, "all runs into one table"),
    compare: (compare_options, "two runs side by side, differences paired over seeds"),
}


def parse(words):
    "Return the command and its options as argparse has them."
    parser = argparse.ArgumentParser(prog="fmnist-cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for function, (options, text) in COMMANDS.items():
        command = commands.add_parser(function.__name__, help=text, description=text)
        command.set_defaults(function=function)
        options(command)
    return vars(parser.parse_args(words))


def main(words=None):
    "Do what the command line says; the exit code, or one line that says what is wrong."
    given = parse(words)
    try:
        code = given.pop("function")(**given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        return " ".join(str(error).splitlines()) or type(error).__name__
