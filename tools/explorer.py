"""Build the explorer: one page with the test images as points on a map.

And what each method of the reference run took them for.
"""

import argparse
import base64
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.events import DocumentReady
from bokeh.models import ColumnDataSource, CustomJS
from bokeh.plotting import figure
from bokeh.resources import Resources

TOOLS = Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS.parent))

# run from the checkout: the package beside this folder is found only now
from fmnist_cluster.data import _IDX_SETS, class_names, data_folders, load_images, load_labels  # noqa: E402
from fmnist_cluster.evaluation import book_methods  # noqa: E402
from fmnist_cluster.saving import load_artefact  # noqa: E402

REFERENCE = TOOLS.parent / "results" / "reference"
# pixels of a tile, 28 and a margin, so that no image bleeds into the next when compressed; tiles in
# a row
TILE, ACROSS = 32, 100
# of chapter 09: Paul Tol's muted colours and an orange
COLOURS = {
    "classes": [
        "#332288",
        "#88ccee",
        "#cc6677",
        "#117733",
        "#ddcc77",
        "#aa4499",
        "#44aa99",
        "#882255",
        "#ee7733",
        "#999933",
    ],
    "noName": "#b0b0b0",
    "right": "#a9bccf",
    "wrong": "#d55e00",
}


def sprite(images) -> str:
    """Put all images (n, 28, 28) into one picture, a row of 100 after another, as a data URI.

    That is a tenth of what 10,000 pictures would take.
    """
    rows = -(-len(images) // ACROSS)
    tiles = np.zeros((rows * ACROSS, TILE, TILE), dtype=np.uint8)
    tiles[: len(images), :28, :28] = images
    sheet = (
        tiles.reshape(rows, ACROSS, TILE, TILE).swapaxes(1, 2).reshape(rows * TILE, ACROSS * TILE)
    )
    file = io.BytesIO()
    PIL.Image.fromarray(sheet).save(file, "webp", quality=80)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def methods_in(table) -> list[str]:
    "Methods of a table of assignments, in its order."
    return [name.removesuffix("_cluster") for name in table.columns if name.endswith("_cluster")]


def titles_in(table) -> dict[str, str]:
    "Display name of each of these methods, as the book's record has it; else its id."
    book = book_methods()
    return {name: book.get(name, {}).get("name", name) for name in methods_in(table)}


def drawing(table, truth, names):
    "Bokeh's document: the map, with explorer.js waiting for the page to be ready."
    kinds = {"index": np.int32, "x": np.float32, "y": np.float32} | {
        name: np.int8 for name in methods_in(table)
    }
    columns = {name: table[name].to_numpy(kinds.get(name, np.int16)) for name in table}
    everything = ColumnDataSource(columns | {"truth": np.asarray(truth, dtype=np.int8)})
    empty = {"x": [], "y": []}
    shown, labels, ring = (
        ColumnDataSource(empty | {"colour": []}),
        ColumnDataSource(empty | {"text": []}),
        ColumnDataSource(empty),
    )
    plot = figure(
        name="map",
        sizing_mode="stretch_both",
        match_aspect=True,
        tools="pan,box_zoom,wheel_zoom,reset",
        active_drag="pan",
        active_scroll="wheel_zoom",
        toolbar_location="above",
        outline_line_color="#d8dee4",
        output_backend="canvas",
    )
    plot.axis.visible = plot.grid.visible = False
    plot.toolbar.update(
        logo=None, styles={"min-width": "160px", "justify-content": "start"}
    )  # with less Bokeh hides the last button in a menu
    size = float(np.clip(400 / len(table) ** 0.5, 4, 10))
    plot.scatter("x", "y", source=everything, size=size, color="#e4e7ea", line_color=None)
    plot.scatter("x", "y", source=shown, size=size, color="colour", line_color=None)
    plot.scatter(
        "x", "y", source=ring, size=size + 8, fill_color=None, line_color="black", line_width=2
    )
    plot.text(
        "x",
        "y",
        "text",
        source=labels,
        text_align="center",
        text_baseline="middle",
        text_font_size="12px",
        text_font_style="bold",
        background_fill_color="white",
        background_fill_alpha=0.75,
        padding=2,
        border_radius=3,
    )
    models = {
        "plot": plot,
        "everything": everything,
        "shown": shown,
        "labels": labels,
        "ring": ring,
    }
    settings = {
        "methods": methods_in(table),
        "titles": titles_in(table),
        "names": list(names),
        "colours": COLOURS,
        "tile": TILE,
        "across": ACROSS,
    }
    document = Document()
    document.add_root(plot)
    document.js_on_event(
        DocumentReady,
        CustomJS(args=models | settings, code=(TOOLS / "explorer.js").read_text(encoding="utf-8")),
    )
    return document


def explorer_page(table, images, truth, names, dataset, origin) -> str:
    """Return the page as HTML that loads nothing.

    Parameters
    ----------
    table : DataFrame
        One row an image: `index` in the test split, `x`, `y`, then for each method the class it
        said (-1: none) and `<method>_cluster`.
    images, truth : ndarray
        The image (28, 28) and the true class of each row.
    names : list of str
        Names of the classes.
    dataset, origin : str
        The data set, and the run that the assignments come from, in words.
    """
    words = {
        "count": f"{len(table):,}",
        "dataset": dataset,
        "origin": origin,
        "methods": methods_in(table),
        "titles": titles_in(table),
        "names": names,
        "sprite": sprite(images),
        "site_style": (TOOLS / "docs.css").read_text(encoding="utf-8"),
    }
    return file_html(
        drawing(table, truth, names),
        Resources(mode="inline", log_level="warn"),
        title=f"Explorer, {dataset}",
        template=(TOOLS / "explorer.html").read_text(encoding="utf-8"),
        template_variables=words,
    )


def have_images(dataset) -> bool:
    "Say whether the images are on this machine, so that nothing would be downloaded."
    source = _IDX_SETS.get(dataset)
    return not source or any(
        list((folder / source.__name__ / "raw").glob("t10k-*.gz")) for folder in data_folders()
    )


def write_explorer(folder) -> bool:
    """Write explorer.html into `folder` from results/reference/.

    Returns False, and prints why, where its table or the images are not at hand.
    """
    table_file = REFERENCE / "test_assignments.csv"
    records_file = REFERENCE / "evaluation_metrics.json"
    for file in (table_file, records_file):
        if not file.exists():
            missing = f"results/reference/{file.name}"
            print(f"No explorer: {missing} is not there; `make reference` writes it.")
            return False
    table, records = pd.read_csv(table_file), load_artefact(records_file)
    dataset = records[0]["dataset"]
    if not have_images(dataset):
        print(
            f"No explorer: the images of {dataset} are not on this machine; "
            "FMNIST_CLUSTER_DATA names the folder that holds them."
        )
        return False
    used = [record for record in records if record["method"] in methods_in(table)]
    origin = ", ".join(
        f"{fact} {' and '.join(sorted({str(record[fact]) for record in used}))}"
        for fact in ("preset", "commit")
    )
    images, truth = (load(dataset, "test")[table["index"]] for load in (load_images, load_labels))
    page = explorer_page(table, images, truth, class_names(dataset), dataset, origin)
    (Path(folder) / "explorer.html").write_text(page, encoding="utf-8")
    return True


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--out", type=Path, default=Path("_docs"), help="folder that explorer.html is written into"
    )
    out = arguments.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    sys.exit(not write_explorer(out))
