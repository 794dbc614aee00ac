__version__ = "0.1.0"

import ast
import functools
import importlib
import re
from pathlib import Path


@functools.cache
def _homes():
    "Public names of the exported modules, each with the module that holds it; none is imported."
    homes: dict[str, str] = {}
    for file in Path(__file__).parent.glob("[a-z]*.py"):
        names = re.search(r"^__all__ = (\[.*?\])", file.read_text(encoding="utf-8"), re.M | re.S)
        homes |= dict.fromkeys(ast.literal_eval(names[1]) if names else [], file.stem)
    return homes


def __getattr__(name):
    "Import a name when it is first asked for: `from fmnist_cluster import IDEC`."
    if name not in _homes():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_homes()[name]}"), name)


def __dir__():
    return sorted({*globals(), *_homes()})
