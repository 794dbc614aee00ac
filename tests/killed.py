"""Kill a stage at every step: `python killed.py FOLDER STRIDE`.

A stage is run in a child process that is killed (SIGKILL) at its n-th change of the file system,
for n = 1, 1 + STRIDE, ... until one lives to its end. After each death what lies there must be
whole or refused, and the same stage, run again, must leave what an undisturbed one leaves, byte for
byte.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from fmnist_cluster.ae_kmeans import AEKMeans
from fmnist_cluster.autoencoder import Autoencoder
from fmnist_cluster.core import InputError
from fmnist_cluster.dec import IDEC
from fmnist_cluster.runs import Stage, stage_metrics
from fmnist_cluster.saving import load_artefact

X = np.random.default_rng(0).random((60, 6), dtype=np.float32)
SMALL = Autoencoder(2, hidden=(4,), epochs=1, device="cpu", random_state=0)
METHODS = {
    "ae_kmeans": AEKMeans(3, autoencoder=SMALL, n_init=1, device="cpu", random_state=0),
    "idec": IDEC(3, autoencoder=SMALL, n_init=1, max_iter=2, device="cpu", random_state=0),
}
CHANGES = ("replace", "unlink", "mkdir", "rename", "chmod")


def run_stage():
    stage = Stage("06_dec_idec", dataset="digits", seed=0, run="r", max_iter=2)
    for name, model in METHODS.items():
        model = stage.fit(name, model, X)
        stage.keep(name, model, X[:9], model.transform(X[:9]))
        stage.save(f"{name}/history.csv", pd.DataFrame(getattr(model, "history_", [{"loss": 0.5}])))
    stage.finish(note="whole")
    return stage.folder


def in_a_child(runs, dies_at=0):
    """Run the stage in a child that is killed before its `dies_at`-th change (0: never).

    Half of the deaths come after half of a file. Returns whether it was killed.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    os.environ["FMNIST_CLUSTER_RUNS"] = str(runs)
    left = dies_at

    def deadly(change):
        def changed(self, *words, **options):
            nonlocal left
            left -= 1
            if left == 0:
                if change == "replace" and dies_at % 2:
                    # in the middle of its writing
                    os.truncate(self, os.path.getsize(self) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return change_of[change](self, *words, **options)

        return changed

    change_of = {name: getattr(Path, name) for name in CHANGES}
    for name in CHANGES:
        setattr(Path, name, deadly(name))
    try:
        run_stage()
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    else:
        os._exit(0)
    os._exit(1)


def left_in(runs):
    "Return what a stage has left, times, memory and temporary files apart."
    return {
        f"{file.parent.name}/{file.name}": file.read_bytes()
        for file in runs.rglob("[!.]*.*")
        if file.suffix in (".npy", ".csv", ".safetensors") or file.name == "config.json"
    }


def check_remains(folder):
    "Check that each file is whole or refused: nothing half is taken for whole."
    facts = stage_metrics(folder)
    if facts:
        assert facts["note"] == "whole" and all((folder / name).exists() for name in facts["files"])
    for file in folder.rglob("[!.]*.*"):
        if file.suffix in (".npy", ".csv", ".json"):
            load_artefact(file)
    for name, model in METHODS.items():
        if (folder / name / "config.json").exists():
            try:
                type(model).load(folder / name)
            except InputError as refusal:
                assert "checksum" in str(refusal)


if __name__ == "__main__":
    base, stride, step, deaths = Path(sys.argv[1]), int(sys.argv[2]), 1, []
    assert not in_a_child(base / "whole")
    whole = left_in(base / "whole")
    assert len(whole) == 12, sorted(whole)
    while in_a_child(runs := base / f"{step}", step):
        folder = runs / "r/digits/seed=0/06_dec_idec"
        deaths.append(stage_metrics(folder) is not None)
        check_remains(folder)
        assert not in_a_child(runs)
        check_remains(folder)
        assert left_in(runs) == whole, [
            name for name in whole if left_in(runs).get(name) != whole[name]
        ]
        assert (
            stage_metrics(folder)["files"].keys()
            == stage_metrics(base / "whole/r/digits/seed=0/06_dec_idec")["files"].keys()
        )
        step += stride
    print(json.dumps({"deaths": len(deaths), "complete at death": sum(deaths)}))
