"The book as data: its chapters in order, what each reads, and what a preset makes of its parameters."
import ast
import hashlib
import re
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent

# chapter -> the chapters whose artefacts it reads; the order is the order of the book
READS = {
    "00_core": [],
    "01_eda": [],
    "02_metrics": [],
    "03_baseline": [],
    "04_autoencoder": [],
    "05_ae_kmeans": ["04_autoencoder"],
    "06_dec_idec": ["04_autoencoder", "05_ae_kmeans"],
    "07_pseudo_label": [],
    "08_evaluation": ["03_baseline", "04_autoencoder", "05_ae_kmeans", "06_dec_idec", "07_pseudo_label"],
}
# study -> the chapters it reads; `make studies` runs these, `make run` does not
STUDIES = {
}
LIGHT = {"00_core", "01_eda", "02_metrics"}     # one core each
OVER_SEEDS = {"08_evaluation"}                  # runs once for a data set, over all seeds; the others once a seed

COMMON = {"dataset", "seed", "run", "out_run", "preset", "device", "force"}     # parameters of every chapter
PRESETS = ("full", *sorted(folder.name for folder in (ROOT / "params").iterdir() if folder.is_dir()))


def cells(chapter: str) -> list:
    "Code cells of a chapter."
    notebook = nbformat.read(ROOT / "nbs" / f"{chapter}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_hash(chapter: str) -> str:
    "Hash of the chapter's code alone: outputs and prose may change without a new run."
    return hashlib.sha256("\0".join(cell.source for cell in cells(chapter)).encode()).hexdigest()[:16]


def modules(chapter: str) -> list[str]:
    "Modules that the chapter's code may rest on: its own and those of the chapters before it."
    earlier = [name for name in READS | STUDIES if name <= chapter]
    found = [re.search(r"^#\| *default_exp +(\w+)", cell.source, re.M) for name in earlier for cell in cells(name)]
    return [f"fmnist_cluster/{match[1]}.py" for match in found if match]


def needed(chapters) -> list[str]:
    "These chapters and all that they read, in the order of the book."
    found = set(chapters)
    while more := {read for chapter in found for read in (READS | STUDIES).get(chapter, [])} - found: found |= more
    return sorted(found)


def threads(chapter: str, cores: int) -> int:
    "Cores that a chapter takes. Two training chapters side by side on half the cores each end sooner than one after the other on all of them."
    if chapter in LIGHT: return 1
    return cores if chapter in OVER_SEEDS else max(1, cores // 2)


def overrides(chapter: str, preset: str) -> str | None:
    "The preset's parameter file for a chapter, relative to the project, if there is one."
    file = f"params/{preset}/{chapter}.yaml"
    return file if (ROOT / file).exists() else None


def defaults(chapter: str) -> dict:
    "Parameters of the chapter with the values of its tagged cell."
    source = "\n".join(cell.source for cell in cells(chapter) if "parameters" in cell.metadata.get("tags", []))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body if isinstance(node, ast.Assign)}


def parameters(chapter: str, preset: str) -> dict:
    "Parameters of the chapter as the preset gives them."
    file = overrides(chapter, preset)
    return defaults(chapter) | ((file and yaml.safe_load((ROOT / file).read_text())) or {})


def seed_folder(seed: int, chapter: str) -> str:
    "Folder of a stage below runs/<run>/<dataset>/."
    return chapter if chapter in OVER_SEEDS else f"seed={seed}/{chapter}"
