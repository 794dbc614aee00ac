"""Do the tests notice when a score or a loss is wrong?

`python tests/mutation.py [MODULE ...]` changes them one small thing at a time (mutmut's mutants).
Each mutant is tried in a process of its own by the cells of its chapter's notebook, as the second
runner of test_notebooks.py runs them. A mutant is killed when a cell fails or the notebook takes
two minutes of processor time. The survivors are shown, and the share that was killed.
"""

import ast
import importlib
import json
import os
import re
import resource
import sys
from difflib import unified_diff
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import IPython  # noqa: F401  these are in every child already
import matplotlib.pyplot  # noqa: F401
import seaborn  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch  # noqa: F401
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.mutation.trampoline import set_mutant_under_test
from nbdev.config import get_config
from notebook_runner import run_exported

import fmnist_cluster

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {
    "metrics": r"x_\w+",
    "autoencoder": r"x_reconstruction_loss",
    "dec": r"x_(log_soft_assign|soft_assign|target_distribution|clustering_loss)"
    r"|xǁ(DEC|IDEC)ǁ_loss",
    "pseudo_label": r"x_(contrastive_loss|neighbour_loss)",
}


def epochs_for(notebook, module, file, mutant):
    "Return whether the notebook's cells find nothing wrong with this mutant, in a child process."
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
    try:
        set_mutant_under_test(mutant)
        spec = spec_from_file_location(f"fmnist_cluster.{module}", file)
        mutated = sys.modules[spec.name] = module_from_spec(spec)
        spec.loader.exec_module(mutated)
        setattr(fmnist_cluster, module, mutated)
        os._exit(0 if run_exported(notebook, set(get_config().tst_flags.split())) else 1)
    except BaseException:
        os._exit(1)


def try_all(module, folder):
    """Try every mutant of a module's scores or losses.

    Returns how many there are, and the diffs of those that no cell noticed.
    """
    text = (ROOT / f"fmnist_cluster/{module}.py").read_text()
    notebook = ROOT / "nbs" / re.search(r"File to edit: \S*/(\w+\.ipynb)", text)[1]
    for name in re.findall(r"(?m)^from \.(\w+) import", text):
        importlib.import_module(f"fmnist_cluster.{name}")
    mutated = mutate_file_contents(f"{module}.py", text)
    file, lines = Path(folder) / f"{module}.py", mutated.code.splitlines()
    file.write_text(mutated.code)
    assert epochs_for(notebook, module, file, "none"), f"{notebook.name} fails as it is"
    # mutmut's own mutant `fail`: every function raises
    assert not epochs_for(notebook, module, file, "fail"), "mutants do not reach the cells"
    names = [
        name
        for name in mutated.mutant_names
        if re.fullmatch(rf"({TARGETS[module]})__mutmut_\d+", name)
        and doing(mutated, lines, name) != doing(mutated, lines, original(name))
    ]
    return len(names), [
        difference(mutated, lines, name)
        for name in names
        if epochs_for(notebook, module, file, f"fmnist_cluster.{module}.{name}")
    ]


def original(name):
    return f"{name.rpartition('__mutmut_')[0]}__mutmut_orig"


def source(mutated, lines, name):
    "Return the lines of one function, named f."
    span = mutated.line_span_by_function_name[name]
    return [line.replace(name, "f") for line in lines[span.start - 1 : span.end]]


def doing(mutated, lines, name):
    "Return a function without its docstring, which mutmut changes as it does any text."
    function = ast.parse(dedent("\n".join(source(mutated, lines, name)))).body[0]
    if ast.get_docstring(function):
        del function.body[0]
    return ast.unparse(function)


def difference(mutated, lines, name):
    "Show what a mutant changed, in lines with - and +."
    changed = unified_diff(
        source(mutated, lines, original(name)), source(mutated, lines, name), lineterm="", n=0
    )
    return f"{name}\n" + "\n".join(
        line for line in changed if not line.startswith(("---", "+++", "@@"))
    )


if __name__ == "__main__":
    made = left = 0
    with TemporaryDirectory() as folder:
        for module in sys.argv[1:] or TARGETS:
            count, survivors = try_all(module, folder)
            print(
                *survivors,
                f"{module}: {count - len(survivors)} of {count} mutants killed",
                sep="\n",
                flush=True,
            )
            made, left = made + count, left + len(survivors)
    print(json.dumps({"mutants": made, "killed": made - left, "share": round(1 - left / made, 3)}))
