"""What do these pictures show? `fmnist-cluster predict`, and the door to the other commands.

Only what `predict` needs is imported here, and no PyTorch: the answer is there in less time than the other commands take to import what they need.
"""

import argparse
import csv
import json
import os
import sys

from fmnist_cluster.applications import list_files, load_classifier, predict_pictures

TEXT = "what pictures of garments show: a class, its probability and two alternatives a line"


def options(command):
    "The words that `predict` understands."
    command.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="image files, or folders whose files are taken",
    )
    command.add_argument(
        "--model",
        metavar="FOLDER",
        help="a saved classifier of chapter 07 (default: the one in the package)",
    )
    command.add_argument(
        "--json",
        action="store_true",
        dest="as_json",
        help="print one list of objects instead of lines",
    )
    command.add_argument(
        "--csv",
        metavar="FILE",
        dest="table",
        help="write a table too, a row a picture that could be read",
    )


def shown(name):
    "A file's name on one line of any terminal."
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


def line(row):
    "Name, class and alternatives of one picture."
    first, *others = [
        f"{each['class']} {each['probability']:.2f}" for each in (row, *row["alternatives"])
    ]
    return f"{shown(row['file'])}: {first}" + (f" ({', '.join(others)})" if others else "")


def cells(row):
    "One picture as a row of the table: file, then class and probability of the best three."
    return [
        shown(row["file"]),
        *(
            value
            for each in (row, *row["alternatives"])
            for value in (each["class"], each["probability"])
        ),
    ]


def predict(pictures, model=None, as_json=False, table=None):
    "Print what the pictures show, remarks and errors to stderr; 1 if one could not be used, else 0."
    classifier, names = load_classifier(model)
    files, rows = list(list_files(pictures)), []
    if not files:
        raise ValueError(f"there is no file in {', '.join(pictures)}.")
    for row in predict_pictures(files, classifier, names):
        if told := row.get("error") or row.get("remark"):
            print(f"{shown(row['file'])}: {told}", file=sys.stderr)
        if not as_json and "error" not in row:
            print(line(row))
        rows.append(row)
    if as_json:
        print(json.dumps(rows, indent=1))
    if table:
        with open(table, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(
                [
                    [
                        "file",
                        "class",
                        "probability",
                        "second",
                        "second_probability",
                        "third",
                        "third_probability",
                    ],
                    *(cells(row) for row in rows if "error" not in row),
                ]
            )
    return int(any("error" in row for row in rows))


def main(words=None):
    "Do what the command line says; the exit code, or one line that says what is wrong."
    words = sys.argv[1:] if words is None else words
    if words[:1] != ["predict"]:
        from fmnist_cluster_cli import main as others

        return others(words)
    parser = argparse.ArgumentParser(prog="fmnist-cluster predict", description=TEXT)
    options(parser)
    try:
        return predict(**vars(parser.parse_args(words[1:])))
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
