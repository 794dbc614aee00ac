"""How outputs of a run come into the notebooks, and what the committed run must hold.

Only outputs come, only of the same code, and nothing that belongs to one machine. Figures are
compared with the records they were made from, never with numbers typed here.
"""

import json
import os
import re

import nbformat
import pandas as pd
import pytest
import reference
from book import CHAPTERS
from conftest import ROOT
from explorer import have_images, methods_in
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fmnist_cluster.core import InputError
from fmnist_cluster.data import load_labels


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def notebook(*sources, outputs=()):
    cells = [new_code_cell(source, id=f"cell{number}") for number, source in enumerate(sources)]
    for cell, output in zip(cells, outputs):
        cell.outputs, cell.execution_count = [output], 7
    return new_notebook(cells=[new_markdown_cell("# Words", id="words"), *cells])


def test_outputs_are_matched_by_id_and_nothing_else_is_copied():
    executed = notebook("a = 1", "a", outputs=[stream("one"), stream("two")])
    executed.cells.insert(1, new_code_cell("# Parameters\nseed = 1", id="injected"))
    filled = reference.with_outputs("03_x", notebook("a = 1", "a"), executed)
    assert [cell.id for cell in filled.cells] == ["words", "cell0", "cell1"]
    assert [cell.outputs[0].text for cell in filled.cells[1:]] == ["one", "two"]
    assert all(cell.execution_count is None for cell in filled.cells[1:])


@pytest.mark.parametrize(
    "sources", [("a = 1", "a + 1"), ("a = 1", "a", "new")], ids=["changed", "added"]
)
def test_other_code_is_refused_and_named(sources):
    with pytest.raises(InputError, match="03_x, cell cell[12] .* is not the code that was run"):
        reference.with_outputs("03_x", notebook(*sources), notebook("a = 1", "a"))


@pytest.mark.parametrize("text", ["read /home/somebody/data", "<b>/root/x</b>", "'/tmp/out.npy'"])
def test_absolute_paths_are_refused_and_named(text):
    for output in (
        stream(text),
        new_output("execute_result", {"text/html": text}, execution_count=1),
    ):
        with pytest.raises(InputError, match="03_x, cell cell0 .* shows the absolute path"):
            reference.with_outputs("03_x", notebook("a"), notebook("a", outputs=[output]))


def test_relative_paths_links_and_pictures_are_kept():
    outputs = [
        stream("runs/home/x, https://a.org/tmp/b, 3/usr"),
        new_output("display_data", {"image/png": "AA/tmp/x", "text/plain": "figure"}),
    ]
    filled = reference.with_outputs("03_x", notebook("a", "b"), notebook("a", "b", outputs=outputs))
    assert [cell.outputs for cell in filled.cells[1:]] == [[output] for output in outputs]


def test_progress_bars_stay_behind_and_errors_are_refused():
    filled = reference.with_outputs(
        "03_x", notebook("a"), notebook("a", outputs=[stream("\r 50%|##", "stderr")])
    )
    assert filled.cells[1].outputs == []
    with pytest.raises(InputError, match="cell0 .* ended in KeyError"):
        reference.with_outputs(
            "03_x",
            notebook("a"),
            notebook(
                "a", outputs=[new_output("error", ename="KeyError", evalue="x", traceback=[])]
            ),
        )


def test_pictures_become_smaller_and_stay_the_same_to_the_eye():
    import base64
    import io

    import numpy as np
    from PIL import Image

    drawn, file = (
        np.tile(np.arange(256, dtype=np.uint8), (64, 2))[..., None].repeat(3, 2),
        io.BytesIO(),
    )
    Image.fromarray(drawn).save(file, "png", compress_level=0)
    before = base64.b64encode(file.getvalue()).decode()
    light = (
        reference.lighten(
            notebook("a", outputs=[new_output("display_data", {"image/png": before})])
        )
        .cells[1]
        .outputs[0]
        .data["image/png"]
    )
    after = np.asarray(Image.open(io.BytesIO(base64.b64decode(light))).convert("RGB")).astype(int)
    assert len(light) < len(before) / 2 and abs(after - drawn).max() <= 4


@pytest.mark.parametrize("loaded, seconds, peak", [(False, 30.0, 400), (True, 1030.0, 900)])
def test_a_loaded_fit_counts_with_what_it_took(loaded, seconds, peak, tmp_path):
    (tmp_path / "dec").mkdir()
    fit, metrics = tmp_path / "dec/fit.json", tmp_path / "metrics.json"
    fit.write_text(json.dumps({"fit_seconds": 1000.0, "peak_memory_mb": 900.0}))
    metrics.write_text(
        json.dumps(
            {
                "dataset": "digits",
                "seed": 1,
                "provenance": {"preset": "full", "device": "cpu", "commit": "abc"},
            }
        )
    )
    (tmp_path / "benchmark.tsv").write_text("s\tmax_rss\n30.0\t400.0\n")
    ended = metrics.stat().st_mtime
    os.utime(fit, (ended - (100 if loaded else 10),) * 2)
    cost = reference.cost(tmp_path, "06_dec_idec")
    assert (cost["wall_seconds"], cost["peak_memory_mb"], cost["chapter"], cost["preset"]) == (
        seconds,
        peak,
        "06_dec_idec",
        "full",
    )


# the committed run


@pytest.fixture(scope="module")
def records():
    return pd.DataFrame(
        json.loads((reference.REFERENCE / "evaluation_metrics.json").read_text())
    ).query("dataset == 'fashion_mnist' and preset == 'full'")


def test_every_method_is_on_record_for_both_splits_and_the_same_seeds(records):
    seeds = records.groupby(["method", "split"]).seed.unique().map(sorted).unstack()
    assert set(seeds.columns) == {"train", "test"}
    assert all(found == seeds.iloc[0, 0] for found in seeds.to_numpy().ravel())
    assert len(seeds.iloc[0, 0]) >= 5
    assert not records.duplicated(["method", "split", "seed"]).any()
    assert records[["acc", "acc_train_mapping", "nmi", "purity"]].stack().between(0, 1).all()
    assert (records.acc_train_mapping <= records.acc + 1e-9).all()


COLUMNS = {
    "ACC (map from train)": "acc_train_mapping",
    "ACC (map from test)": "acc",
    "NMI": "nmi",
    "ARI": "ari",
    "AMI": "ami",
    "purity": "purity",
}


def test_the_committed_table_says_what_the_records_say(records):
    table = pd.read_csv(reference.REFERENCE / "comparison.csv").set_index("method")
    groups = records[records.split == "test"].groupby("method")
    means = groups[list(COLUMNS.values())].mean().loc[table.index]
    assert set(table.index) == set(groups.groups)
    for shown, score in COLUMNS.items():
        assert list(table[shown]) == pytest.approx(list(means[score]), abs=1e-6), shown
    spread = groups.acc_train_mapping.std().loc[table.index]
    assert list(table["sd over seeds"]) == pytest.approx(list(spread), abs=1e-6)
    gain = 100 * (means.acc_train_mapping - means.acc_train_mapping["kmeans"])
    assert list(table["points over k-means"]) == pytest.approx(list(gain), abs=1e-4)
    assert list(table.seeds) == list(groups.seed.nunique().loc[table.index])


@pytest.mark.skipif(not have_images("fashion_mnist"), reason="Fashion-MNIST is not on this machine")
def test_the_committed_assignments_score_what_the_records_say(records):
    table = pd.read_csv(reference.REFERENCE / "test_assignments.csv")
    truth = load_labels("fashion_mnist", "test")
    test = records[(records.split == "test") & (records.method != "random")]
    methods = methods_in(table)
    assert set(methods) == set(test.method)
    scores = {method: (table[method] == truth).mean() for method in methods}
    agree = [
        seed
        for seed, of_seed in test.groupby("seed")
        if of_seed.set_index("method").acc_train_mapping.to_dict() == pytest.approx(scores)
    ]
    assert len(agree) == 1, "they are the assignments of one seed"


def test_the_notebook_shows_the_committed_table():
    cells = {
        cell.source.split("\n", 1)[-1]: cell
        for cell in nbformat.read(ROOT / "nbs/09_evaluation.ipynb", as_version=4).cells
        if cell.cell_type == "code"
    }
    shown = next(
        cell.outputs[0].data["text/html"]
        for source, cell in cells.items()
        if source.startswith("comparison = ")
    )
    rows = re.findall(r"<tr>\s*<th>([^<]+)</th>\s*<td>(.*?)</td>", shown)
    table = pd.read_csv(reference.REFERENCE / "comparison.csv")
    names = {id: name for record in CHAPTERS.values() for id, name in record["methods"].items()}
    assert [names.get(method, method) for method, _ in rows] == [names[id] for id in table.method]
    assert [float(acc) for _, acc in rows] == pytest.approx(
        list(table["ACC (map from train)"]), abs=6e-4
    )


def test_the_classical_grid_is_whole_and_the_best_rows_have_three_seeds():
    grid = pd.read_csv(reference.REFERENCE / "classical_grid.csv")
    first = grid[grid.seed == 42]
    assert first.row.is_unique and (grid.n_train == 60_000).all()
    said = pd.read_csv(ROOT / "results/published/classical_grid.csv")[["ari", "ami"]]
    shown = first.loc[first.published_ari.notna(), ["published_ari", "published_ami"]]
    assert sorted(map(tuple, shown.to_numpy())) == sorted(map(tuple, said.to_numpy()))
    assert len(shown) < len(first)
    seeds = grid.groupby("row").seed.nunique()
    assert (seeds[first.nlargest(10, "ari").row] >= 3).all()
    assert (first[first.noise_fraction > 0].clusterer.str.contains("hdbscan|dbscan|optics")).all()


def committed(name):
    return pd.read_csv(reference.REFERENCE / f"applications_{name}.csv")


def shown_numbers(save):
    "Return the numbers of the table that chapter 10 shows in the cell that keeps this artefact."
    cells = nbformat.read(ROOT / "nbs/10_applications.ipynb", as_version=4).cells
    (output,) = next(cell for cell in cells if f'stage.save("{save}"' in cell.source).outputs
    return [
        float(number.replace(",", ""))
        for number in re.findall(r"<td>(-?[\d.,]+)</td>", output.data["text/html"])
    ]


@pytest.mark.parametrize(
    "name, table",
    [
        (
            "few_labels",
            lambda few: few.pivot_table(index="labels", columns="way", values="acc", sort=False),
        ),
        (
            "domains",
            lambda rows: rows.pivot_table(
                index="distortion", columns="way", values="acc", sort=False
            ),
        ),
        ("anomalies", lambda rows: rows.set_index("hidden")),
        ("cost", lambda rows: rows.set_index("share of right labels")),
    ],
)
def test_chapter_10_shows_the_committed_table(name, table):
    assert shown_numbers(f"{name}.csv") == pytest.approx(
        list(table(committed(name)).to_numpy().ravel()), abs=6e-4
    )


def test_chapter_10_has_enough_draws_seeds_and_classifiers():
    few, left_out = committed("few_labels"), committed("left_out")
    assert few.groupby("labels").seed.nunique().min() >= 5
    assert sorted(few.labels.unique()) == [10, 30, 100, 300, 1000]
    assert committed("domains").groupby("distortion").seed.nunique().min() >= 3
    assert committed("text").groupby("method").seed.nunique().min() >= 5
    assert left_out["class"].nunique() == 10 and committed("classifiers").seed.nunique() >= 3


def test_chapter_10_s_classifiers_are_those_of_the_committed_run(records):
    classifiers = committed("classifiers").set_index("seed")
    named = classifiers[classifiers.figure == "accuracy, named by all labels"].value
    full = records[(records.method == "pseudo_label_full") & (records.split == "test")]
    scores = full.set_index("seed").acc_train_mapping.loc[named.index]
    assert list(named) == pytest.approx(list(scores))


def test_the_dec_studies_are_whole_and_published_figures_stand_beside_their_own_data_only():
    table = pd.read_csv(reference.REFERENCE / "dec_questions.csv")
    parts = {study: rows for study, rows in table.groupby("study")}
    assert len(parts["main"]) == 4 * parts["main"].dataset.nunique()
    assert len(parts["imbalance"]) == 2 * 5 * 3
    assert sorted(parts["clusters"].query("method == 'DEC'").n_clusters) == list(range(3, 21))
    drawn = parts["clusters"].dropna(subset="generalizability")
    assert len(drawn) == 18 and list(drawn.generalizability) == pytest.approx(
        list(drawn.train_loss / drawn.validation_loss)
    )
    assert table[table.dataset != "mnist"].published_acc.isna().all()


def test_the_kin_are_whole_and_stand_beside_their_own_starts():
    kin, codes = (
        pd.read_csv(reference.REFERENCE / name) for name in ("related.csv", "autoencoders.csv")
    )
    methods = {"DCEC", "IDEC-DA", "DCN", "VaDE", "DDC"}
    assert methods < set(kin.method) and kin.method.is_unique
    assert kin.method.str.startswith("k-means, ").sum() == 5
    assert set(kin.dropna(subset="fit_seconds").method) == methods
    assert set(kin.dropna(subset="published_acc").method) == {"DCEC", "IDEC-DA", "VaDE"}
    assert kin.acc_train_mapping.between(0, 1).all()
    assert (kin.acc_train_mapping <= kin.acc + 1e-9).all()
    assert codes.groupby("autoencoder").width.unique().map(sorted).tolist() == [[10, 20, 80]] * 4
    assert (codes.held_out_loss > 0).all()


def test_the_sizes_are_whole_and_every_rule_names_what_its_curve_says():
    sizes, numbers = (
        pd.read_csv(reference.REFERENCE / name) for name in ("data_size.csv", "n_clusters.csv")
    )
    assert sorted(sizes.n_train.unique()) == [1_000, 5_000, 20_000, 60_000]
    assert not sizes.duplicated(["method", "n_train", "seed"]).any()
    assert sizes.groupby(["method", "n_train"]).seed.nunique().eq(3).all()
    assert sizes.method.nunique() == 4
    assert (sizes.acc_train_mapping <= sizes.acc + 1e-9).all()
    for (space, estimator), curve in numbers.groupby(["space", "estimator"]):
        named, curve = list(curve.k[curve.named]), curve.sort_values("k")
        # its rule is a fall, not a height: chapter 21's rows
        if estimator == "generalizability":
            continue
        if estimator == "gap statistic":
            expected = list(
                curve.k[:-1][
                    curve.value.to_numpy()[:-1] >= (curve.value - curve.error).to_numpy()[1:]
                ]
            )[:1]
        else:
            expected = [curve.k[curve.value.idxmax()]]
        assert named == expected, (space, estimator)
