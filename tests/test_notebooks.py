"Every notebook twice: its own cells by nbdev's runner, and its tests against the exported package."
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import CHAPTERS, ROOT, call

NOTEBOOKS = sorted(file.stem for file in (ROOT / "nbs").glob("*.ipynb"))
EXPORTING = [name for name in CHAPTERS if "#| default_exp" in (ROOT / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8")]      # a study exports nothing


@pytest.fixture(scope="module")
def outcomes(request):
    "Every chosen run, as many at a time as there are cores, one thread each."
    chosen = [item.callspec.params for item in request.session.items if item.path == request.path]
    one = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {(each["name"], each["what"]): pool.submit(call, "tests/notebook_runner.py", f"nbs/{each['name']}.ipynb", each["what"], **one)
               for each in chosen}


@pytest.mark.parametrize("what, name", [("own", name) for name in NOTEBOOKS] + [("exported", name) for name in EXPORTING])
def test_notebook(what, name, outcomes):
    process = outcomes[name, what].result()
    assert process.returncode == 0, process.stdout + process.stderr
