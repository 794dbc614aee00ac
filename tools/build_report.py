"An executed notebook as one HTML file without its code, the figures with their captions."

import json
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter


def captioned(notebook):
    "The notebook with the caption of each figure, which stands in its code, as text beneath it."
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        caption = (
            re.search(r'^#\| *fig-cap: *(".*")$', cell.source, re.M)
            if cell.cell_type == "code"
            else None
        )
        if caption:
            cells.append(nbformat.v4.new_markdown_cell(f"*{json.loads(caption[1])}*"))
    notebook.cells = cells
    return notebook


if __name__ == "__main__":
    notebook, report = map(Path, sys.argv[1:])
    page, _ = HTMLExporter(exclude_input=True).from_notebook_node(
        captioned(nbformat.read(notebook, as_version=4))
    )
    report.write_text(page, encoding="utf-8")
