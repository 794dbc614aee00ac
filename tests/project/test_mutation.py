"The cells notice when a score or a loss is wrong."

import json
import os

import pytest
from conftest import ROOT, call


@pytest.mark.long
def test_most_mutants_of_the_scores_and_losses_are_killed():
    "See mutation.py."
    process = call(
        "tests/mutation.py",
        OMP_NUM_THREADS="1",
        PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    )
    assert process.returncode == 0, process.stderr
    print(process.stdout)
    counted = json.loads(process.stdout.splitlines()[-1])
    assert counted["mutants"] > 300 and counted["share"] >= 0.85
