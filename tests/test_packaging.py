"The package as others get it: built, installed beside the locked dependencies, imported far from the checkout."
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

MODULES = sorted(file.stem for file in (ROOT / "fmnist_cluster").glob("[a-z]*.py"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "A wheel made from the sdist, as an index would get them; built from a copy, so the checkout gets no build folder."
    out, copy = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("copy") / "source"
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if not (ROOT / name).is_file() or name.startswith(("nbs/", "tests/")): continue
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    process = subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return out


def test_wheel_holds_every_module_and_the_licence(built):
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    assert {f"fmnist_cluster/{name}.py" for name in MODULES} | {"fmnist_cluster/py.typed"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "nbs", "workflow", "tools"))]


def test_sdist_can_be_built_again(built):
    names = {Path(name).name for name in tarfile.open(next(built.glob("*.tar.gz"))).getnames()}
    assert {"settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names


def test_links_of_the_description_lead_somewhere(built):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    description = wheel.read(next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))).decode()
    found = re.findall(r"(!?)\[[^]]*\]\(([^)#]+)", description)
    assert found and [target for _, target in found if not target.startswith("https://")] == []
    files = [(picture, re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+/(blob|raw)/main/(.+)", target)) for picture, target in found]
    assert [match[0] for picture, match in files if match and (not (ROOT / match[2]).exists() or (match[1] == "raw") != bool(picture))] == []


def test_wheel_works_outside_the_checkout(built, tmp_path):
    "Installed alone; the dependencies are those of this environment, seen through a .pth file without its own editable install."
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python, site = tmp_path / "venv/bin/python", next((tmp_path / "venv").glob("lib/python*/site-packages"))
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", next(built.glob("*.whl"))], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program = ("import importlib, sys, numpy as np, fmnist_cluster\n"
               f"for name in {MODULES!r}: importlib.import_module(f'fmnist_cluster.{{name}}')\n"
               "from fmnist_cluster.data import load_images; assert load_images('digits').shape == (1437, 28, 28)\n"
               "print(fmnist_cluster.__file__)")
    shown = subprocess.run([python, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert Path(shown.stdout.strip()).is_relative_to(site)
    refused = subprocess.run([tmp_path / "venv/bin/fmnist-cluster", "sweep", "table.csv"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 1 and refused.stderr.strip().endswith("lies in no checkout of fmnist_cluster; go into one: the notebooks and the workflow are there.")
