"""Write README.md, README.ko.md and llms.txt from nbs/index.ipynb.

The cells of the index, which read results/reference/, are run and their outputs kept. The Korean
page has the same code and the same outputs. Its prose stands in readme_ko.md: a section for each
markdown cell, picture and chapter, under its name and a hash of the English that it translates.
"""

import ast
import copy
import hashlib
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean
from nbdev.config import get_config
from notebook_markdown import notebook_markdown

PROJECT = Path(__file__).resolve().parent.parent
INDEX = PROJECT / "nbs" / "index.ipynb"
KOREAN = Path(__file__).with_name("readme_ko.md")


def refuse_rich(data, said):
    "Refuse what is no Markdown; a picture in the README is a committed file."
    raise SystemExit(
        f"{INDEX.name}: an output is {', '.join(data)}; "
        "show Markdown there, and pictures from a committed file."
    )


def repository() -> str:
    "Return the address of the committed files on the project's host."
    config = get_config(path=PROJECT)
    return f"{config.git_url}/blob/{config.branch}/"


def from_the_root(markdown) -> str:
    "Make links from nbs/ or to the repository's own address read as in the project's root."
    return re.sub(r"\]\((?=[\w-]+\.ipynb|images/)", "](nbs/", markdown.replace(repository(), ""))


def readme(notebook) -> str:
    "Write README.md from the index notebook."
    return from_the_root(notebook_markdown(notebook.cells, refuse_rich))


def heading(source) -> tuple[str, str]:
    "Return title and one-line summary of a notebook, or of its translation, from its first cell."
    return re.match(r"# (.+?)\n+> (.+?)(?:\n|$)", source).groups()


def chapters() -> dict:
    "Return title and summary of each chapter by the name of its notebook."
    notebooks = sorted(INDEX.parent.glob("[0-9][0-9]_*.ipynb"))
    return {
        path.stem: heading(nbformat.read(path, as_version=4).cells[0].source) for path in notebooks
    }


# the Korean page


def captions(notebook) -> dict:
    "Return the captions of the pictures by cell id."
    found = {
        cell.id: re.search(r'^caption = "(.+)"$', cell.source, re.MULTILINE)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    return {name: match[1] for name, match in found.items() if match}


def originals(notebook) -> dict:
    "Return the English texts that are translated, by cell id or name of the chapter."
    prose = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"}
    return (
        prose
        | captions(notebook)
        | {name: f"# {title}\n\n> {summary}" for name, (title, summary) in chapters().items()}
    )


def translations(notebook) -> dict:
    "Return the Korean texts by the same names; warn of each whose English has changed since."
    _, *pieces = re.split(
        r"^<!-- (\w+) (\w+) -->\n", KOREAN.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    texts, there = (
        dict(zip(pieces[::3], map(str.strip, pieces[2::3]))),
        dict(zip(pieces[::3], pieces[1::3])),
    )
    english = originals(notebook)
    asked = {name: hashlib.sha256(text.encode()).hexdigest()[:8] for name, text in english.items()}
    for name in asked | there:
        if asked.get(name) != there.get(name):
            now = asked.get(name, "is gone")
            print(
                f"{KOREAN.name}: to be translated anew under <!-- {name} {now} -->", file=sys.stderr
            )
    return english | texts


def readme_in_korean(notebook) -> str:
    "Write README.ko.md: prose, captions and titles in Korean, code and figures untouched."
    texts, notebook = translations(notebook), copy.deepcopy(notebook)
    entry = "{1}]({0}.ipynb): {2}".format
    words = {
        entry(name, *english): entry(name, *heading(texts[name]))
        for name, english in chapters().items()
    }
    words |= {english: texts[name] for name, english in captions(notebook).items()}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = texts[cell.id]
        for output in cell.get("outputs", []):
            shown = output.get("data", {})
            for english, korean in words.items():
                if english in shown.get("text/markdown", ""):
                    shown["text/markdown"] = shown["text/markdown"].replace(english, korean)
    return readme(notebook)


# for programs that read

LLMS = """# {title}

> {summary}

- The notebooks are the source: nbdev makes the package, its tests and the site from them. \
`workflow/chapters.yaml` has a record of each chapter.
- Estimators keep scikit-learn's conventions. Images are grey or in colour, \
vectors float32 arrays (n, d).
- No `fit` reads a label; the exceptions are named in PROTOCOL.
- The cluster-to-class map is fitted on the train images and applied to the test images.

## Chapters

{pages}

## API

{modules}

## Results

- [The front page]({site}index.html): the table of the methods, how to run the book, what it costs
- [The reference run]({repository}results/reference): one record for each method, seed and split, \
with the commit and device it came from

## Optional

- [Protocol]({repository}PROTOCOL.md): what is fitted on what, labels, seeds, statistics, \
departures from the papers, stable API
- [Contributing]({repository}CONTRIBUTING.md): how to add a method or a data set, \
what lives in which module, tests
- [Operations]({repository}OPERATIONS.md): runs, sweeps, clusters, environment variables, \
what a run leaves
- [Releasing]({repository}RELEASING.md): versions, lock files, the reference run, the site
- [Changelog]({repository}CHANGELOG.md)
- [The front page in Korean]({repository}README.ko.md)
"""


def public_names(module) -> str:
    "List the names that a module of the package exports."
    names = re.search(r"^__all__ = (\[.*?\])", module.read_text(encoding="utf-8"), re.M | re.S)
    return ", ".join(f"`{name}`" for name in ast.literal_eval(names[1]))


def llms(notebook) -> str:
    "Write llms.txt: what the project is, where its chapters and modules stand, what each holds."
    config, (title, summary) = get_config(path=PROJECT), heading(notebook.cells[0].source)
    site = f"{config.doc_host}{config.doc_baseurl}/"
    pages = [
        f"- [{name[:2]} {title}]({site}{name[3:]}.html): {line}"
        for name, (title, line) in chapters().items()
    ]
    modules = sorted((PROJECT / "fmnist_cluster").glob("[a-z]*.py"))
    files = [file for file in modules if "AUTOGENERATED" in file.read_text(encoding="utf-8")]
    folder = f"{repository()}fmnist_cluster"
    listed = [
        f"- [fmnist_cluster.{file.stem}]({folder}/{file.name}): {public_names(file)}"
        for file in files
    ]
    return LLMS.format(
        title=title,
        summary=summary,
        pages="\n".join(pages),
        modules="\n".join(listed),
        site=site,
        repository=repository(),
    )


PAGES = {"README.md": readme, "llms.txt": llms, "README.ko.md": readme_in_korean}


def executed(notebook):
    "Run the notebook's cells; what they write goes to a folder that is removed."
    with tempfile.TemporaryDirectory() as folder:
        for name in ("settings.ini", "nbs", "results", "workflow"):
            (Path(folder) / name).symlink_to(PROJECT / name)
        return NotebookClient(
            notebook, kernel_name="python3", resources={"metadata": {"path": folder}}
        ).execute()


def main():
    nbformat.write(executed(nbformat.read(INDEX, as_version=4)), INDEX)
    nbdev_clean(fname=str(INDEX))
    notebook = nbformat.read(INDEX, as_version=4)
    for name, text in PAGES.items():
        (PROJECT / name).write_text(text(notebook), encoding="utf-8")


if __name__ == "__main__":
    main()
