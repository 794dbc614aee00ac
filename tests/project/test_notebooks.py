"""Every notebook twice: its own cells by nbdev's runner, and its tests against the package.

And how much of the package those have run.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import CHAPTERS, ROOT, call

NOTEBOOKS = sorted(file.stem for file in (ROOT / "nbs").glob("*.ipynb"))
# a study may export nothing
EXPORTING = [
    name
    for name in CHAPTERS
    if "#| default_exp" in (ROOT / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8")
]
RUNS = [("own", name) for name in NOTEBOOKS] + [("exported", name) for name in EXPORTING]


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    return tmp_path_factory.mktemp("coverage")


@pytest.fixture(scope="module")
def outcomes(request, counted):
    """Start every chosen run, as many at a time as there are cores, one thread each.

    Which lines of the package the second runner has run lies in the folder `counted`.
    """
    chosen = [
        tuple(item.callspec.params[name] for name in ("what", "name"))
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    one = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MPLBACKEND": "agg"}

    def run(what, name):
        counting = (
            ["-m", "coverage", "run", f"--data-file={counted}/.coverage.{name}"]
            if what == "exported"
            else []
        )
        return call(*counting, "tests/notebook_runner.py", f"nbs/{name}.ipynb", what, **one)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {each: pool.submit(run, *each) for each in chosen}


@pytest.mark.parametrize("what, name", RUNS)
def test_notebook(what, name, outcomes):
    process = outcomes[what, name].result()
    assert process.returncode == 0, process.stdout + process.stderr


def test_the_notebooks_tests_cover_the_package(outcomes, counted):
    "At least 95 of 100 lines; those that need a GPU count as missed."
    if not {("exported", name) for name in EXPORTING} <= outcomes.keys():
        pytest.skip("needs the second runner on every notebook")
    for outcome in outcomes.values():
        outcome.result()
    combined = f"--data-file={counted}/.coverage"
    for words in (
        ["combine", combined, "--quiet", str(counted)],
        ["json", combined, "--quiet", "-o", counted / "report.json"],
    ):
        process = call("-m", "coverage", *words)
        assert process.returncode == 0, process.stdout + process.stderr
    report = json.loads((counted / "report.json").read_text())
    missed = {
        file: found["missing_lines"]
        for file, found in report["files"].items()
        if found["missing_lines"]
    }
    share, lines = (report["totals"][key] for key in ("percent_covered", "num_statements"))
    print(f"{share:.1f} % of {lines} lines; not run: {missed}")
    assert len(report["files"]) == len(EXPORTING) and share >= 95
