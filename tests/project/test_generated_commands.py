"Whatever is typed or stands in a table, a command answers in one line or hands it to Snakemake."

import pytest
import run
from conftest import GENERATED
from hypothesis import given
from hypothesis import strategies as st

from fmnist_cluster import cli, data

VALUES = [
    "",
    "digits",
    "cifar",
    "quick",
    "full",
    "fast",
    "42",
    "1,2",
    "-1",
    "042",
    "42,",
    "1e3",
    "4294967296",
    "../out",
    "/out",
    "a b",
    "a\nb",
    "~",
    "-",
    "\u00e9",
    "x" * 300,
    "06_dec_idec.gamma=0.2",
    "06_dec_idec.gamma=",
    "06_dec_idec.gama=1",
    "06_dec_idec.device=cuda:99",
    "03_baseline.rows=[1",
    "=",
    "06_dec_idec=1",
    "10_dec_paper",
    "20_classical_grid",
    "local",
    "0",
]
# a shell hands over no NUL
value = st.one_of(
    st.sampled_from(VALUES),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
)
option = st.sampled_from(
    [
        "--run",
        "--seeds",
        "--preset",
        "--set",
        "--studies",
        "--profile",
        "--threads",
        "--gpus",
        "--dataset",
        "--force",
        "--nonsense",
    ]
)


@GENERATED
@given(
    command=st.sampled_from(["run", "run", "run", "sweep", "status", "collect", "compare"]),
    options=st.lists(st.tuples(option, value), max_size=3),
    more=st.lists(value, max_size=2),
)
def test_commands(command, options, more, tmp_path_factory):
    """A command is refused in one line, by argparse or by us, or goes to Snakemake.

    Nothing is written but below the folder of the runs.
    """
    place, words = (
        tmp_path_factory.mktemp("command"),
        [
            command,
            *(["--dataset", "digits"] if command == "run" else []),
            *(word for pair in options for word in pair),
            *more,
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMNIST_CLUSTER_RUNS", str(place / "runs"))
        patch.setattr(data, "_download", lambda *_: False)
        patch.setattr(run, "snakemake", lambda *_: None)
        patch.chdir(place)
        try:
            answer = cli.main(words)
        except SystemExit as refusal:
            answer = refusal.code
    assert answer in (0, 2, 130) or isinstance(answer, str) and answer and "\n" not in answer, (
        words,
        answer,
    )
    assert [file.name for file in place.iterdir()] in ([], ["runs"])


@GENERATED
@given(
    lines=st.lists(st.lists(value, max_size=5).map(",".join), max_size=4),
    columns=st.lists(
        st.sampled_from(
            ["run", "dataset", "preset", "seeds", "06_dec_idec.gamma", "nonsense", "", "run"]
        ),
        max_size=5,
    ),
)
def test_tables(lines, columns, tmp_path_factory):
    "The same of a sweep's table, whatever stands in it."
    place = tmp_path_factory.mktemp("table")
    (place / "table.csv").write_text("\n".join([",".join(columns), *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMNIST_CLUSTER_RUNS", str(place / "runs"))
        patch.setattr(data, "_download", lambda *_: False)
        patch.setattr(run, "snakemake", lambda *_: None)
        patch.chdir(place)
        answer = cli.main(["sweep", str(place / "table.csv")])
    assert answer == 130 or isinstance(answer, str) and answer and "\n" not in answer, answer
