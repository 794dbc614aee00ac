"What must be true of the files as they are committed."

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from book import (
    CHAPTERS,
    COMMON,
    DEFAULTS,
    PRESETS,
    RECORDS,
    cells,
    chapters,
    code_hash,
    defaults,
    exported,
    imported,
    modules,
    overrides,
    parameters,
)
from conftest import ROOT, TRAINING, call, copy_project

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
PACKAGE = {file.stem: file for file in (ROOT / "fmnist_cluster").glob("[a-z]*.py")}


def python(cell):
    "Return a cell's code, line magics left out."
    return re.sub(r"(?m)^\s*[%!].*$", "", cell.source)


def code(chapter):
    "Return the chapter's code as Python."
    return "\n".join(python(cell) for cell in cells(chapter))


def length(cell):
    "Count the statements in a cell, docstrings left out: how a line is broken does not matter."
    statements = [node for node in ast.walk(ast.parse(python(cell))) if isinstance(node, ast.stmt)]
    return sum(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in statements
    )


def holds_a_class(cell):
    "Whether a cell defines a class: a class is whole, in one cell."
    return any(isinstance(node, ast.ClassDef) for node in ast.parse(python(cell)).body)


# the book


def test_every_chapter_has_a_record():
    notebooks = {file.stem for file in NOTEBOOKS if file.stem != "index"}
    assert notebooks == set(CHAPTERS) and chapters("main", "study", "appendix") == list(CHAPTERS)
    for chapter, record in RECORDS.items():
        assert record.keys() <= DEFAULTS.keys(), chapter
        assert set(record.get("bounds", {})) <= set(record.get("methods", {})), chapter
    methods = [method for record in CHAPTERS.values() for method in record["methods"]]
    assert len(methods) == len(set(methods))


def test_a_chapter_reads_only_earlier_ones_of_the_main_line():
    order = list(CHAPTERS)
    for chapter, record in CHAPTERS.items():
        assert all(order.index(read) < order.index(chapter) for read in record["reads"]), chapter
        assert set(record["reads"]) <= set(chapters("main")), chapter


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_graph_knows_what_a_chapter_reads(chapter):
    found = set(re.findall(r"stage\.(?:upstream|load)\(\s*[\"'](\w+)[\"']", code(chapter)))
    assert found <= set(CHAPTERS[chapter]["reads"])


def test_imports_make_no_circle():
    "Each module in turn is let go of that imports none of those still held."
    left = {name: imported(file.read_text()) - {name} for name, file in PACKAGE.items()}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


@pytest.mark.parametrize("chapter", chapters("main"))
def test_the_main_line_imports_no_study(chapter):
    "Chapter 03 alone shows pairs of the whole grid, whose clusterers are the grid's own."
    studies = {f"fmnist_cluster/{exported(study)}.py" for study in chapters("study")}
    allowed = {"fmnist_cluster/grid.py"} if chapter == "03_baseline" else set()
    assert studies & set(modules(chapter)) <= allowed


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import fmnist_cluster.dec as dec", {"dec"}),
        ("from fmnist_cluster.dec import IDEC", {"dec"}),
        ("def late():\n    from .dec import IDEC", {"dec"}),
        ("from fmnist_cluster import dec, data", {"dec", "data"}),
        ("from . import dec", {"dec"}),
        ("from fmnist_cluster import IDEC", set(PACKAGE)),
        ("import numpy as np", set()),
    ],
)
def test_imports_are_found(source, expected):
    assert imported(source) == expected


def test_a_chapter_rests_on_what_its_imports_import():
    assert {"autoencoder", "ae_kmeans", "dec"} <= {
        Path(file).stem for file in modules("06_dec_idec")
    }
    assert "fmnist_cluster/dec.py" not in modules("05_ae_kmeans")


@pytest.mark.parametrize(
    "module, stale, fresh",
    [("saving", "05_ae_kmeans", None), ("networks", "08_contrastive", "02_metrics")],
)
def test_an_edit_makes_stale_what_imports_it(module, stale, fresh):
    "Snakemake makes a chapter again when one of these files is newer."
    assert f"fmnist_cluster/{module}.py" in modules(stale)
    assert fresh is None or f"fmnist_cluster/{module}.py" not in modules(fresh)


def test_prose_and_outputs_do_not_count_as_code(monkeypatch, tmp_path):
    import book

    (tmp_path / "nbs").mkdir()
    notebook = nbformat.read(ROOT / "nbs" / "00_core.ipynb", as_version=4)
    notebook.cells[0].source += " More words."
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    before = code_hash("00_core")
    monkeypatch.setattr(book, "ROOT", tmp_path)
    nbformat.write(notebook, tmp_path / "nbs" / "00_core.ipynb")
    assert code_hash("00_core") == before
    next(cell for cell in notebook.cells if cell.cell_type == "code").source += "\nmore = 1"
    nbformat.write(notebook, tmp_path / "nbs" / "00_core.ipynb")
    assert code_hash("00_core") != before


# parameters


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_one_cell_is_tagged_parameters(chapter):
    tagged = [cell for cell in cells(chapter) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert COMMON <= defaults(chapter).keys()
    lines = tagged[0].source.splitlines()
    assert all("#" in lines[node.lineno - 1] for node in ast.parse(tagged[0].source).body), (
        "each parameter has a comment"
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_parameter_reaches_the_stage(chapter):
    calls = [
        node
        for node in ast.walk(ast.parse(code(chapter)))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Stage"
    ]
    own = [call for call in calls if call.args and getattr(call.args[0], "value", None) == chapter]
    assert len(own) == 1
    passed = {keyword.arg: ast.unparse(keyword.value) for keyword in own[0].keywords}
    over_seeds = {"over_seeds": "True"} if CHAPTERS[chapter]["over_seeds"] else {}
    assert passed == {name: name for name in defaults(chapter)} | over_seeds


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "full"])
def test_presets_name_only_known_parameters(preset):
    for file in (ROOT / "params" / preset).iterdir():
        given = yaml.safe_load(file.read_text()) or {}
        assert file.suffix == ".yaml" and file.stem in CHAPTERS, file
        assert given.keys() <= defaults(file.stem).keys() - (COMMON - {"device"}), file
        assert all(
            type(value) is type(defaults(file.stem)[name])
            or {type(value), type(defaults(file.stem)[name])} == {int, float}
            for name, value in given.items()
        ), file


def test_a_preset_overrides_the_notebook():
    changed = [
        (chapter, name)
        for chapter in CHAPTERS
        for name, value in parameters(chapter, "quick").items()
        if value != defaults(chapter)[name]
    ]
    assert changed and all(overrides(chapter, "quick") for chapter, _ in changed)


# labels


@pytest.mark.parametrize("chapter", TRAINING)
def test_no_label_is_loaded_before_the_stage_is_finished(chapter):
    sources = [cell.source for cell in cells(chapter)]
    finished = next(number for number, source in enumerate(sources) if "stage.finish(" in source)
    called = [
        number for number, source in enumerate(sources) if re.search(r"\bload_labels\(", source)
    ]
    assert all(number > finished for number in called)


@pytest.mark.parametrize("chapter", TRAINING)
def test_no_method_knows_where_labels_are(chapter):
    module = PACKAGE[exported(chapter)]
    assert not re.search(
        r"load_labels|load_digits|_digits\(|_read_idx|\blabels-idx", module.read_text()
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_finishing_comes_after_the_last_artefact(chapter):
    source = code(chapter)
    last = max(
        (match.start() for match in re.finditer(r"\bstage\.(save|keep|fit)\(", source)), default=-1
    )
    assert source.rfind("stage.finish(") > last


# the notebooks as files


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebook_is_fit_to_be_read(file):
    raw, notebook = file.read_text(), nbformat.read(file, as_version=4)
    assert len(raw) < 1.5e6
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c.id for c in code if length(c) > 30 and not holds_a_class(c)] == []
    assert [
        output.ename for cell in code for output in cell.outputs if output.output_type == "error"
    ] == []
    for cell in code:
        for output in cell.outputs:
            # base64 may spell anything
            output.get("data", {}).pop("image/png", None)
    assert re.findall(r"/(?:root|home|tmp|work|Users)/[\w.-]+", json.dumps(notebook)) == []


WRITTEN_BY_HAND = ("__init__", "__main__", "_old_names", "cli", "dec_kin", "dec_studies", "tables")


def test_no_line_of_code_is_wider_than_100_columns():
    "Captions are one line each, and `__all__` is nbdev's."
    wide = []
    for file in NOTEBOOKS:
        for cell in nbformat.read(file, as_version=4).cells:
            lines = cell.source.splitlines() if cell.cell_type == "code" else []
            lines = [line for line in lines if not line.startswith("#| fig-cap:")]
            wide += [f"{file.stem} {cell.id}: {line}" for line in lines if len(line) > 100]
    for file in (ROOT / "fmnist_cluster").glob("*.py"):
        if file.stem != "_modidx":
            text = re.sub(r"^__all__ = \[.*?\]$", "", file.read_text(), flags=re.M | re.S)
            wide += [f"{file.stem}: {line}" for line in text.splitlines() if len(line) > 100]
    assert wide == []


def lines_of_code(source):
    "Number of lines, docstrings left out."
    docstrings = [
        node.body[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)) and ast.get_docstring(node)
    ]
    in_docstrings = sum(each.end_lineno - each.lineno + 1 for each in docstrings)
    return len(source.splitlines()) - in_docstrings


@pytest.mark.parametrize("module", sorted(PACKAGE))
def test_a_room_stays_small(module):
    limit = 260 if module == "core" else 450
    assert lines_of_code(PACKAGE[module].read_text()) <= limit


def test_ruff_finds_nothing():
    by_hand = [f"fmnist_cluster/{name}.py" for name in WRITTEN_BY_HAND]
    formatted = ["nbs", "tests", "tools", "workflow", "benchmarks", "setup.py", *by_hand]
    for words in (["check", "."], ["format", "--check", *formatted]):
        process = call("-m", "ruff", *words)
        assert process.returncode == 0, process.stdout + process.stderr


def test_export_and_clean_change_nothing(tmp_path):
    "Run on a copy: the package is what the notebooks say, and the notebooks are clean."
    copy = copy_project(tmp_path / "project")
    files = [file.relative_to(copy) for file in copy.rglob("*") if file.is_file()]
    for tool in ("nbdev_export", "nbdev_clean"):
        subprocess.run(
            [Path(sys.executable).with_name(tool)], cwd=copy, check=True, capture_output=True
        )
    changed = [
        str(name) for name in files if (copy / name).read_bytes() != (ROOT / name).read_bytes()
    ]
    assert changed == []
    modules = {file.relative_to(copy) for file in (copy / "fmnist_cluster").glob("*.py")}
    assert modules <= set(files)


# the lock


def test_lock_is_universal_and_hashed():
    text = (ROOT / "requirements.lock").read_text()
    packages = re.findall(r"^[\w.-]+==\S+", text, re.M)
    assert len(packages) > 100 and len(
        re.findall(r"^[\w.-]+==[^\n]*\\\n    --hash=sha256:", text, re.M)
    ) == len(packages)
    assert not re.search(r"https?://|file:|index-url|find-links|/(?:root|home|tmp|work)/", text)


def test_lock_has_what_settings_ask_for():
    from configparser import ConfigParser

    settings = ConfigParser()
    settings.read(ROOT / "settings.ini")
    asked = " ".join(
        value
        for name, value in settings["DEFAULT"].items()
        if name == "requirements" or name.endswith("_requirements")
    )
    locked = {
        re.sub(r"[-_.]+", "-", name).lower()
        for name in re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    }
    assert {
        re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", word)[0]).lower() for word in asked.split()
    } <= locked


# the workflows


@pytest.mark.parametrize(
    "file", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda file: file.stem
)
def test_a_workflow_has_no_more_rights_than_it_needs(file):
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in file.read_text()
    for job in workflow["jobs"].values():
        checkouts = [
            step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")
        ]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)
        if job.get("permissions"):
            assert not checkouts and all("uses" in step for step in job["steps"]), (
                "code of the project runs with more than read rights"
            )


def test_only_what_was_tested_is_released():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert {name for name, job in jobs.items() if job.get("permissions")} == {"publish"} and jobs[
        "publish"
    ]["needs"] == "build"
    names = [step.get("name", "") for step in jobs["build"]["steps"]]
    uses = [step.get("uses", "").partition("@")[0] for step in jobs["build"]["steps"]]
    assert names.index("The wheel works with what it asks for and nothing else") < uses.index(
        "actions/upload-artifact"
    )


def test_actions_are_pinned_by_commit_and_workflows_say_their_rights():
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        text = file.read_text()
        used = re.findall(r"^\s*-?\s*uses: (\S+)", text, re.M)
        assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) for name in used), (
            file.name
        )
        assert re.search(r"^permissions:", text, re.M), file.name
