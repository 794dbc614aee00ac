"""Make the reference run; bring its outputs into the notebooks, its tables into the results.

The tables and costs go into results/reference/.
"""

import argparse
import base64
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import torch
from nbdev.clean import nbdev_clean
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]

# a script: what lies beside it is found only now
import run  # noqa: E402
from book import CHAPTERS, chapters, seed_folder  # noqa: E402

from fmnist_cluster import ContrastiveClassifier  # noqa: E402
from fmnist_cluster.core import InputError  # noqa: E402
from fmnist_cluster.data import class_names, load_images, load_labels  # noqa: E402
from fmnist_cluster.metrics import class_scores, external_scores, match_clusters  # noqa: E402
from fmnist_cluster.runs import runs_root, stage_metrics  # noqa: E402
from fmnist_cluster.saving import load_artefact, save_artefact  # noqa: E402

REFERENCE = ROOT / "results" / "reference"
ABSOLUTE = re.compile(r"(?<![\w.~/:])/(?:root|home|tmp|work|opt|mnt|srv|var|usr|Users)/[\w.-]+")


def name_of(chapter, cell):
    "How a message names a cell: chapter, id and first line."
    return f"{chapter}, cell {cell.id} ({(cell.source.splitlines() or ['empty'])[-1][:60]!r})"


def kept_outputs(chapter, cell):
    "A cell's outputs without progress bars; InputError if one holds an absolute path or an error."
    outputs = [
        output
        for output in cell.outputs
        if not (output.get("name") == "stderr" and ("\r" in output.text or not output.text.strip()))
    ]
    for output in outputs:
        if output.output_type == "error":
            raise InputError(
                f"{name_of(chapter, cell)} ended in {output.ename}; run the chapter again."
            )
        words = [
            output.get("text", ""),
            *(
                value
                for kind, value in output.get("data", {}).items()
                if not kind.startswith("image/")
            ),
        ]
        found = ABSOLUTE.search(json.dumps(words))
        if found:
            raise InputError(
                f"{name_of(chapter, cell)} shows the absolute path {found[0]}; "
                "show it relative to the project."
            )
    return outputs


def with_outputs(chapter, notebook, executed):
    """Return the notebook with the outputs of the executed one, matched by cell id.

    InputError where the code differs.
    """
    done = {cell.id: cell for cell in executed.cells}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if cell.id not in done or done[cell.id].source != cell.source:
            raise InputError(
                f"{name_of(chapter, cell)} is not the code that was run; "
                "run `make reference` again."
            )
        cell.outputs, cell.execution_count = kept_outputs(chapter, done[cell.id]), None
    return notebook


def lighten(notebook):
    "Give pictures 256 colours where that makes them smaller: half the size of many notebooks."
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        if "image/png" not in output.get("data", {}):
            continue
        small = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB").quantize(
            256, dither=Image.Dither.NONE
        ).save(small, "png", optimize=True)
        output.data["image/png"] = min(
            output.data["image/png"], base64.b64encode(small.getvalue()).decode(), key=len
        )
    return notebook


def machine():
    "The machine in words, e.g. '2 cores, AVX512-BF16, 24 GB'."
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    widest = next(
        (
            name
            for flag, name in {
                "avx512_bf16": "AVX512-BF16",
                "avx512f": "AVX512",
                "avx2": "AVX2",
            }.items()
            if flag in cpu
        ),
        None,
    )
    memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return ", ".join(filter(None, [f"{os.cpu_count()} cores", widest, f"{memory} GB"]))


def cost(folder, chapter):
    """Return the wall seconds and peak memory of one stage.

    A fit that was loaded, not made, counts with what it took when it was made.
    """
    facts, measured = stage_metrics(folder), pd.read_csv(folder / "benchmark.tsv", sep="\t").iloc[0]
    began = (folder / "metrics.json").stat().st_mtime - measured.s
    kept = [*folder.glob("*/fit.json"), *folder.rglob("made.json")]
    loaded = [load_artefact(file) for file in kept if file.stat().st_mtime < began]
    peaks = [measured.max_rss, *(fit["peak_memory_mb"] for fit in loaded)]
    origin = facts["provenance"]
    return {
        "chapter": chapter,
        "preset": origin["preset"],
        "dataset": facts["dataset"],
        "seed": facts["seed"],
        "wall_seconds": round(float(measured.s) + sum(fit["fit_seconds"] for fit in loaded), 1),
        "peak_memory_mb": round(float(max(peaks))),
        "machine": machine(),
        "device": origin["device"],
        "commit": origin["commit"],
    }


def costs(dataset, runs, seeds):
    """Return what every chapter of these runs cost, beside what is on record for other presets.

    On the seed where it was quickest: other work can only slow it down.
    """
    file = REFERENCE / "chapters.json"
    places = [
        (runs_root() / run / dataset / seed_folder(seed, chapter), chapter)
        for run in runs
        for seed in seeds
        for chapter in CHAPTERS
    ]
    new = [
        cost(folder, chapter)
        for folder, chapter in places
        if stage_metrics(folder) and (folder / "benchmark.tsv").exists()
    ]
    key = lambda record: (record["preset"], record["chapter"])
    records = {key(record): record for record in load_artefact(file)} if file.exists() else {}
    records |= {
        key(record): record for record in sorted(new, key=lambda record: -record["wall_seconds"])
    }  # the quickest comes last and stays
    return [records[name] for name in sorted(records)]


def ship(base, seeds):
    """Put one contrastive model of these seeds into the package, with its card.

    The one whose heads ended with the lowest mean loss; its clusters are numbered as the classes
    they stand for.
    """
    folders = [base / seed_folder(seed, "08_contrastive") / "pseudo_label_full" for seed in seeds]
    models = [ContrastiveClassifier.load(folder) for folder in folders]
    kept = [model.head_losses_[: len(model.network_.heads)].mean() for model in models]
    chosen = kept.index(min(kept))
    model = models[chosen].set_params(verbose=False)
    class_of = match_clusters(load_labels("fashion_mnist"), model.labels_)
    model.network_.order = model.network_.order[:, torch.from_numpy(np.argsort(class_of))]
    del model.labels_  # of 60,000 train images: no part of a classifier
    folder = model.save(ROOT / "fmnist_cluster" / "reference_model")
    save_artefact(folder / "names.json", class_names("fashion_mnist"))
    facts = load_artefact(folders[chosen] / "fit.json")
    (folder / "README.md").write_text(
        card(model, seeds, facts, (folder / "model.safetensors").stat().st_size)
    )


def card(model, seeds, facts, size):
    "The model card: the template with what is measured on the test images."
    X, y, names = (
        load_images("fashion_mnist", "test"),
        load_labels("fashion_mnist", "test"),
        class_names("fashion_mnist"),
    )
    predicted, itself = model.predict(X), np.arange(len(names))
    scores, f1 = external_scores(y, predicted, itself), class_scores(y, predicted, itself)["f1"]
    return (
        (ROOT / "tools" / "model_card.md")
        .read_text()
        .format(
            n_train=len(load_labels("fashion_mnist")),
            seed=model.random_state,
            seeds=", ".join(map(str, seeds)),
            commit=facts["commit"],
            minutes=facts["fit_seconds"] / 60,
            parameters=sum(weights.numel() for weights in model.network_.parameters()),
            megabytes=size / 1e6,
            n_heads=model.n_heads,
            n_kept=len(model.network_.heads),
            acc=(predicted == y).mean(),
            nmi=scores["nmi"],
            confidence=model.predict_proba(X).max(1).mean(),
            f1="\n".join(f"| {name} | {value:.2f} |" for name, value in zip(names, f1)),
            worst=names[int(np.argmin(f1))],
        )
    )


def main(seeds, dataset, run_name, preset="full"):
    "Run what is missing, then copy, if everything can be copied; the exit code."
    recorded = [
        "09_evaluation.on_record=true"
    ]  # seeds add up: those fitted elsewhere stay in the tables
    if code := run.main(
        preset=preset, seeds=seeds, dataset=dataset, run=run_name, force=False, changes=recorded
    ):
        return code
    base, filled = runs_root() / run_name / dataset, {}
    made = [
        chapter  # studies and the appendix run by themselves; their outputs come along
        for chapter in CHAPTERS
        if chapter in chapters("main") or stage_metrics(base / seed_folder(seeds[0], chapter))
    ]
    for chapter in made:
        file = ROOT / "nbs" / f"{chapter}.ipynb"
        executed = nbformat.read(
            base / seed_folder(seeds[0], chapter) / "notebook.ipynb", as_version=4
        )
        filled[file] = lighten(with_outputs(chapter, nbformat.read(file, as_version=4), executed))
    for file, notebook in filled.items():
        nbformat.write(notebook, file)
    nbdev_clean()
    tables = [
        base / "evaluation_metrics.json",
        *(base / "09_evaluation" / name for name in ("comparison.csv", "test_assignments.csv")),
    ]
    for table in tables:
        shutil.copy(table, REFERENCE)
    for chapter in made:
        for artefact, name in CHAPTERS[chapter]["tables"].items():
            shutil.copy(base / seed_folder(seeds[0], chapter) / artefact, REFERENCE / name)
    if (dataset, preset) == ("fashion_mnist", "full"):
        ship(base, seeds)
    (ROOT / "nbs" / "images").mkdir(exist_ok=True)
    shutil.copy(
        base / "09_evaluation" / "figures" / "maps.png", ROOT / "nbs" / "images"
    )  # the README's picture
    save_artefact(REFERENCE / "chapters.json", costs(dataset, (run_name, "quick"), seeds))
    print(
        f"Outputs of {len(filled)} notebooks and {len(list(REFERENCE.iterdir()))} files in "
        "results/reference/ are from this run; `make readme` comes next."
    )
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seeds",
        default="42",
        type=lambda text: text.split(","),
        help="outputs are copied from the first",
    )
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--run", dest="run_name", default="reference")
    parser.add_argument(
        "--preset",
        default="full",
        help="of the run whose outputs are copied; every output and record names it",
    )
    try:
        sys.exit(main(**vars(parser.parse_args())))
    except InputError as error:
        sys.exit(str(error))
