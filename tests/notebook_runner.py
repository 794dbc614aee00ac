"""Run one notebook the way nbdev's tests do: every cell but those marked slow or notest.

`python notebook_runner.py NOTEBOOK own` runs the notebook's own cells. With `exported` each
exported cell is replaced by an import of everything its module holds, so what the other cells test
is the package and not the notebook.
"""

import os
import sys
from pathlib import Path

from execnb.shell import CaptureShell
from nbdev.config import get_config
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor
from nbdev.test import test_nb

EXPORTS = {"export", "exporti", "exports"}
IMPORT_ALL = """
import fmnist_cluster.{0} as _m
globals().update({{k: v for k, v in vars(_m).items() if not k.startswith("__")}})
"""


def run_exported(file, skipped):
    "Run the notebook with the module in place of the exported cells; True if every cell passed."
    notebook = NBProcessor(file, procs=FrontmatterProc, process=True).nb
    module = next(
        cell.directives_["default_exp"][0]
        for cell in notebook.cells
        if "default_exp" in getattr(cell, "directives_", {})
    )
    for cell in notebook.cells:
        if EXPORTS & getattr(cell, "directives_", {}).keys():
            cell.source = IMPORT_ALL.format(module)
    shell, here = CaptureShell(file), Path.cwd()
    os.chdir(file.parent)
    try:
        shell.run_all(
            notebook,
            exc_stop=True,
            preproc=lambda cell: (
                cell.cell_type != "code" or skipped & getattr(cell, "directives_", {}).keys()
            ),
        )
    except Exception:
        print(shell.prettytb(fname=file), file=sys.stderr)
        return False
    finally:
        os.chdir(here)
    return True


if __name__ == "__main__":
    file, skipped = Path(sys.argv[1]).resolve(), set(get_config().tst_flags.split())
    passed = (
        test_nb(file, skip_flags=skipped)[0]
        if sys.argv[2] == "own"
        else run_exported(file, skipped)
    )
    sys.exit(not passed)
