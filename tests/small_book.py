"A book of three small chapters in a copy of the project: many runs of it take seconds."

import pytest
from conftest import copy_project
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook

COMMON = """dataset = "digits"     # data
seed = 42               # seed
run = "book"            # run
out_run = ""            # out
preset = "full"         # preset
device = "auto"         # device
force = False           # force
"""
IMPORTS = """import time
import numpy as np
import pandas as pd
from fmnist_cluster.core import InputError
from fmnist_cluster.runs import Stage
from fmnist_cluster.saving import save_artefact"""

STAGE = """stage = Stage(
    "%s", dataset=dataset, seed=seed, run=run, out_run=out_run,
    preset=preset, device=device, force=force%s)"""
PARTS = """for i in range(20):
    stage.save(f"part{i}.npy", factor**i * stage.load("03_first", "drawn.npy"))
    time.sleep(.05)"""
SCORES = """base = stage.folder.parent
seeds = sorted(int(folder.name[5:]) for folder in base.glob("seed=*"))
part = {s: np.load(base / f"seed={s}/06_second/part1.npy") for s in seeds}
score = {s: float(part[s].mean()) for s in seeds}"""
EVALUATED = """records = [
    dict(method="scaled", dataset=dataset, split="test", seed=s,
         acc_train_mapping=v, nmi=v, ari=v, f1=[v, v])
    for s, v in score.items()
]
save_artefact(base / "evaluation_metrics.json", records)
table = pd.DataFrame({"method": ["scaled"], "ACC": [np.mean(list(score.values()))]})
stage.save("comparison.csv", table)
stage.finish();"""

RECORDS = """
03_first: {}
06_second: {reads: [03_first]}
09_evaluation: {reads: [06_second], over_seeds: true}
"""


def notebook(file, parameters, *sources, over_seeds=False):
    "Write a small chapter: the parameters that all chapters have and these, then the given cells."
    more = "".join(f", {line.split()[0]}={line.split()[0]}" for line in parameters.splitlines()) + (
        ", over_seeds=True" if over_seeds else ""
    )
    cells = [
        new_code_cell(COMMON + parameters, metadata={"tags": ["parameters"]}),
        new_code_cell(IMPORTS),
        new_code_cell(STAGE % (file.stem, more)),
        *map(new_code_cell, sources),
    ]
    write(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), file)


def environment(project, runs):
    return {"FMNIST_CLUSTER_RUNS": str(runs), "PYTHONPATH": str(project)}


@pytest.fixture(scope="session")
def small_project(tmp_path_factory):
    "Copy the project with a book of three small chapters: numbers drawn, scaled and compared."
    project = copy_project(tmp_path_factory.mktemp("small") / "project")
    for preset in (project / "params/quick").iterdir():
        preset.unlink()
    (project / "workflow/chapters.yaml").write_text(RECORDS)
    notebook(
        project / "nbs/03_first.ipynb",
        "n = 50   # numbers\n",
        'stage.save("drawn.npy", np.random.rand(n))',
        "stage.finish();",
    )
    notebook(
        project / "nbs/06_second.ipynb",
        "factor = 2.0   # times\n",
        'if factor == 0: raise InputError("factor is 0; expected another number.")',
        PARTS,
        "stage.finish();",
    )
    notebook(project / "nbs/09_evaluation.ipynb", "", SCORES, EVALUATED, over_seeds=True)
    return project
