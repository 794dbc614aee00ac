"""Write README.md from nbs/index.ipynb: run its cells, which read results/reference/, keep their outputs, show them as GitHub does."""
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean
from nbdev.config import get_config

from notebook_markdown import notebook_markdown

PROJECT = Path(__file__).resolve().parent.parent
INDEX = PROJECT / "nbs" / "index.ipynb"


def refuse_rich(data, said):
    "The README holds Markdown; a picture in it is a committed file that the Markdown names."
    raise SystemExit(f"{INDEX.name}: an output is {', '.join(data)}; show Markdown there, and pictures from a committed file.")


def from_the_root(markdown) -> str:
    "Links that lead from nbs/ or to the repository's own address, as they read in the project's root."
    config = get_config(path=PROJECT)
    markdown = markdown.replace(f"{config.git_url}/blob/{config.branch}/", "")
    return re.sub(r"\]\((?=[\w-]+\.ipynb|images/)", "](nbs/", markdown)


def readme(notebook) -> str:
    "The text of README.md for the index notebook."
    return from_the_root(notebook_markdown(notebook.cells, refuse_rich))


def executed(notebook):
    "The notebook with the outputs that its cells give now."
    return NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": INDEX.parent}}).execute()


def main():
    nbformat.write(executed(nbformat.read(INDEX, as_version=4)), INDEX)
    nbdev_clean(fname=str(INDEX))
    text = readme(nbformat.read(INDEX, as_version=4))
    (PROJECT / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
