"A book of three small chapters in a copy of the project: what many runs need is seen on it in seconds."

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
STAGE = 'stage = Stage("%s", dataset=dataset, seed=seed, run=run, out_run=out_run, preset=preset, device=device, force=force%s)'

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
        new_code_cell(
            "import time\nimport numpy as np\nimport pandas as pd\nfrom fmnist_cluster.core import InputError, Stage, save_artefact"
        ),
        new_code_cell(STAGE % (file.stem, more)),
        *map(new_code_cell, sources),
    ]
    write(new_notebook(cells=cells, metadata={"language_info": {"name": "python"}}), file)


def environment(project, runs):
    return {"FMNIST_CLUSTER_RUNS": str(runs), "PYTHONPATH": str(project)}


@pytest.fixture(scope="session")
def small_project(tmp_path_factory):
    "A copy of the project whose book has three small chapters: numbers drawn, numbers scaled, numbers compared."
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
        'for i in range(20):\n    stage.save(f"part{i}.npy", factor**i * stage.load("03_first", "drawn.npy"))\n    time.sleep(.05)',
        "stage.finish();",
    )
    notebook(
        project / "nbs/09_evaluation.ipynb",
        "",
        "seeds = sorted(int(folder.name[5:]) for folder in stage.folder.parent.glob('seed=*'))\n"
        "score = {s: float(np.load(stage.folder.parent / f'seed={s}/06_second/part1.npy').mean()) for s in seeds}",
        "records = [dict(method='scaled', dataset=dataset, split='test', seed=s, acc_train_mapping=v, nmi=v, ari=v, f1=[v, v]) for s, v in score.items()]\n"
        "save_artefact(stage.folder.parent / 'evaluation_metrics.json', records)\n"
        "stage.save('comparison.csv', pd.DataFrame({'method': ['scaled'], 'ACC': [np.mean(list(score.values()))]}))\nstage.finish();",
        over_seeds=True,
    )
    return project
