"The book as data: its chapters, their parameters under each preset, runs as lines of a table."

import ast
import csv
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent

DEFAULTS = {
    "part": "main",
    "reads": [],
    "cores": None,
    "gpu": False,
    "over_seeds": False,
    "methods": {},
    "bounds": {},
    "tables": {},
}
RECORDS = yaml.safe_load((ROOT / "workflow" / "chapters.yaml").read_text(encoding="utf-8"))
CHAPTERS = {name: DEFAULTS | (record or {}) for name, record in RECORDS.items()}
for record in CHAPTERS.values():
    if record["over_seeds"]:  # it looks at every method of the main line
        record["reads"] = [
            name
            for name, other in CHAPTERS.items()
            if name in record["reads"] or (other["part"] == "main" and other["methods"])
        ]

COMMON = {
    "dataset",
    "seed",
    "run",
    "out_run",
    "preset",
    "device",
    "force",
}  # parameters of every chapter
PRESETS = (
    "full",
    *sorted(folder.name for folder in (ROOT / "params").iterdir() if folder.is_dir()),
)


def cells(chapter: str) -> list:
    "Read the code cells of a chapter."
    notebook = nbformat.read(ROOT / "nbs" / f"{chapter}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def chapters(*parts: str) -> list[str]:
    "List the chapters of these parts (main, study, appendix), in the order of reading."
    return [name for name, record in CHAPTERS.items() if record["part"] in parts]


def urgency() -> dict[str, int]:
    "Count the seconds from the start of each chapter to the end of the book; most urgent is most."
    records = json.loads((ROOT / "results" / "reference" / "chapters.json").read_text())
    seconds = {
        record["chapter"]: record["wall_seconds"]
        for record in records
        if record["preset"] == "quick"
    }
    left = {}
    for chapter in reversed(chapters("main")):  # a chapter reads only what comes before it
        after = [left[later] for later in left if chapter in CHAPTERS[later]["reads"]]
        left[chapter] = seconds.get(chapter, 0) + max(after, default=0)
    return {chapter: round(value) for chapter, value in left.items()}


def code_hash(chapter: str) -> str:
    "Hash the chapter's code alone: outputs and prose may change without a new run."
    return hashlib.sha256("\0".join(cell.source for cell in cells(chapter)).encode()).hexdigest()[
        :16
    ]


def imported(source: str) -> set[str]:
    "Find the package's modules that code imports; all, where it asks the package for a name."
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            origin = f"fmnist_cluster.{origin}".rstrip(".") if node.level else origin
            names |= {
                f"{origin}.{name.name}" if origin == "fmnist_cluster" else origin
                for name in node.names
            }
    found = {name.split(".")[1] for name in names if name.startswith("fmnist_cluster.")}
    there = {file.stem for file in (ROOT / "fmnist_cluster").glob("*.py")}
    return found if found <= there else {name for name in there if name[0] != "_"}


def exported(chapter: str) -> str | None:
    "Name the module that the chapter exports, if it exports one."
    found = [re.search(r"^#\| *default_exp +(\w+)", cell.source, re.M) for cell in cells(chapter)]
    return next((match[1] for match in found if match), None)


def modules(chapter: str) -> list[str]:
    "List what a chapter rests on: its module, those its cells import, and what these import."
    code = "\n".join(re.sub(r"(?m)^\s*[%!].*$", "", cell.source) for cell in cells(chapter))
    left, found = imported(code) | {exported(chapter)}, set()
    while left:
        name = left.pop()
        file = ROOT / "fmnist_cluster" / f"{name}.py"
        if file.exists():
            found.add(name)
            left |= imported(file.read_text(encoding="utf-8")) - found
    return [f"fmnist_cluster/{name}.py" for name in sorted(found)]


def needed(wanted) -> list[str]:
    "List these chapters and all that they read, in the order of the book."
    found = set(wanted)
    while more := {read for chapter in found for read in CHAPTERS[chapter]["reads"]} - found:
        found |= more
    return [chapter for chapter in CHAPTERS if chapter in found]


def threads(chapter: str, share: int) -> int:
    """Count the cores that a chapter takes; one that trains gets `share`.

    Two of them side by side, each on half the cores, end sooner than one after the other on all.
    """
    return CHAPTERS[chapter]["cores"] or share * (1 + CHAPTERS[chapter]["over_seeds"])


def overrides(chapter: str, preset: str) -> str | None:
    "Name the preset's parameter file for a chapter, relative to the project, if there is one."
    file = f"params/{preset}/{chapter}.yaml"
    return file if (ROOT / file).exists() else None


def defaults(chapter: str) -> dict:
    "Read the chapter's parameters with the values of its tagged cell."
    source = "\n".join(
        cell.source for cell in cells(chapter) if "parameters" in cell.metadata.get("tags", [])
    )
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
    }


@functools.cache
def parameters(chapter: str, preset: str) -> dict:
    "Read the chapter's parameters as the preset gives them."
    file = overrides(chapter, preset)
    return defaults(chapter) | ((file and yaml.safe_load((ROOT / file).read_text())) or {})


def seed_folder(seed: int, chapter: str) -> str:
    "Name the folder of a stage below runs/<run>/<dataset>/."
    return chapter if CHAPTERS[chapter]["over_seeds"] else f"seed={seed}/{chapter}"


# runs as lines of a table


@dataclass(eq=False)
class Run:
    "The book on one data set over seeds; `changes` are chapter -> parameter -> value."

    run: str
    dataset: str
    preset: str
    seeds: tuple
    changes: dict

    def parameters(self, chapter: str) -> dict:
        return parameters(chapter, self.preset) | self.changes.get(chapter, {})

    def stage(self, chapter: str, seed) -> str:
        "Name the folder of a stage below the folder of all runs."
        return f"{self.run}/{self.dataset}/{seed_folder(seed, chapter)}"


def typed(value, default):
    "Turn a value, or the text of one, into the type of the parameter's default."
    if isinstance(value, str) and not isinstance(default, str):
        value = (
            float(value)
            if type(default) is float
            else yaml.safe_load(value.replace("_", "") if type(default) is int else value)
        )
    if type(default) is float and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ValueError(f"expected {type(default).__name__}, such as {default!r}")
    return value


def change(name: str, value, where: str) -> tuple:
    "Split a column `chapter.parameter` and check its value; ValueError in one line if it is wrong."
    chapter, _, parameter = name.partition(".")
    if chapter not in CHAPTERS:
        raise ValueError(
            f"{where}: {name!r} names no chapter; expected run, dataset, preset, seeds or "
            f"<chapter>.<parameter>, the chapter one of {', '.join(CHAPTERS)}."
        )
    known = {
        name: default
        for name, default in defaults(chapter).items()
        if name not in COMMON - {"device"}
    }
    if parameter not in known:
        raise ValueError(f"{where}: unknown parameter {name!r}; {chapter} has {', '.join(known)}.")
    try:
        return chapter, parameter, typed(value, known[parameter])
    except (ValueError, yaml.YAMLError) as error:
        expected = (
            str(error)
            if str(error).startswith("expected")
            else f"expected {type(known[parameter]).__name__}, such as {known[parameter]!r}"
        )
        raise ValueError(f"{where}: {name} is {value!r}; {expected}.") from None


def as_run(line: dict, where: str) -> Run:
    "Turn a line of a table into a Run; blank cells are as if they were not there."
    given = {
        str(name).strip(): value.strip() if isinstance(value, str) else value
        for name, value in line.items()
        if name is not None
    }
    given = {name: value for name, value in given.items() if value not in ("", None)}
    if "run" not in given:
        raise ValueError(f"{where}: no name in the column run; expected one for each line.")
    seeds = given.pop("seeds", "42")
    seeds = (
        tuple(map(str, seeds))
        if isinstance(seeds, (list, tuple))
        else tuple(re.split(r"[,\s]+", str(seeds)))
    )
    head = [
        str(given.pop(name, default))
        for name, default in {"run": "", "dataset": "fashion_mnist", "preset": "quick"}.items()
    ]
    changes = {}
    for name, value in given.items():
        chapter, parameter, value = change(name, value, where)
        changes.setdefault(chapter, {})[parameter] = value
    return Run(*head, tuple(dict.fromkeys(seeds)), changes)


def read_sweep(file) -> list[Run]:
    "Read the runs of a table: CSV with a header, or YAML with a list of mappings."
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}); expected a table of runs, .csv or .yaml."
        ) from None
    try:
        lines = (
            yaml.safe_load(text)
            if Path(file).suffix in (".yaml", ".yml")
            else list(csv.DictReader(text.splitlines()))
        )
    except (yaml.YAMLError, csv.Error) as error:
        raise ValueError(f"{file} cannot be read ({' '.join(str(error).split())}).") from None
    if (
        not isinstance(lines, list)
        or not lines
        or not all(isinstance(line, dict) for line in lines)
    ):
        raise ValueError(
            f"{file} holds no run; expected a line a run, with columns run, dataset, preset, "
            "seeds and <chapter>.<parameter>."
        )
    for number, line in enumerate(lines, 1):
        if None in line:
            raise ValueError(
                f"{file}, run {number}: more cells than columns; "
                "put lists of seeds or values between quotes."
            )
    runs = [as_run(line, f"{file}, run {number}") for number, line in enumerate(lines, 1)]
    places = [(run.run, run.dataset) for run in runs]
    if twice := {place for place in places if places.count(place) > 1}:
        raise ValueError(
            f"{file}: {' on '.join(sorted(twice)[0])} stands there more than once; "
            "give each line a run name of its own, or its seeds in one line."
        )
    return runs


def write_sweep(file, runs):
    "Write runs as the YAML table that `read_sweep` reads."
    lines = [
        {"run": run.run, "dataset": run.dataset, "preset": run.preset, "seeds": list(run.seeds)}
        | {
            f"{chapter}.{name}": value
            for chapter, values in run.changes.items()
            for name, value in values.items()
        }
        for run in runs
    ]
    Path(file).write_text(yaml.safe_dump(lines, sort_keys=False))


def owners(runs) -> dict[str, str]:
    "Map each stage to an equal one of an earlier run: same data, preset, seed and parameters."
    first, same = {}, {}
    for run, chapter in (
        (run, chapter)
        for run in runs
        for chapter in CHAPTERS
        if not CHAPTERS[chapter]["over_seeds"]
    ):
        values = json.dumps(
            [run.dataset, run.preset, chapter, [run.parameters(name) for name in needed([chapter])]]
        )
        for seed in run.seeds:
            stage = run.stage(chapter, seed)
            owner = first.setdefault((values, seed), stage)
            if owner != stage:
                same[stage] = owner
    return same
