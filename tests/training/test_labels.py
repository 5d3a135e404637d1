"""A label is a name or an index, and is never silently another one."""

import json
from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from offramp.training.data import load_dataset, load_datasets
from offramp.training.records import DataError


def json_lines(path: Path, labels: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps({"text": "a", "label": one}) + "\n" for one in labels))
    return path


def separated(path: Path, labels: Sequence[object]) -> Path:
    path.write_text("text,label\n" + "".join(f"a,{label}\n" for label in labels))
    return path


def declare(directory: Path, names: object) -> None:
    (directory / "labels.json").write_text(json.dumps({"labels": names}))


def found(path: Path, given: Sequence[str] | None = None) -> list[str]:
    """The names of the labels of its records."""
    dataset = load_dataset(path, given)
    return [dataset.labels[example.label] for example in dataset.examples]


def test_an_index_is_one_of_the_names_that_its_own_source_declares(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"labels": ["yes", "no", "never"]}')
    dev = json_lines(tmp_path / "dev.jsonl", [0, 1])
    dataset = load_dataset(dev, ("no", "yes"))
    assert dataset.labels == ("no", "yes")
    assert [example.label for example in dataset.examples] == [1, 0]
    foreign = json_lines(tmp_path / "b.jsonl", [0, 2])
    with pytest.raises(DataError, match=r"b.jsonl:2: label 'never' is not one of"):
        load_dataset(foreign, ("no", "yes"))


def test_an_index_of_a_hugging_face_dataset_is_one_of_its_own_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["yes", "no"])}
    )
    made = datasets.Dataset.from_list([{"text": "fine", "label": 0}], features=features)
    (tmp_path / "films").mkdir()
    made.to_parquet(tmp_path / "films" / "train.parquet")
    (example,) = load_dataset(f"{tmp_path / 'films'}:train", ("no", "yes")).examples
    assert example.label == 1


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([4712, 4711, 4712], ("4711", "4712")),
        ([5, 1, 3, 2, 4], ("1", "2", "3", "4", "5")),
        ([10, 9], ("9", "10")),
        ([2, 0, 1], ("0", "1", "2")),
    ],
    ids=str,
)
def test_integers_that_nothing_names_are_names(
    form: str, labels: list[int], names: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / f"a.{form}"
    if form == "jsonl":
        json_lines(path, labels)
    elif form == "csv":
        separated(path, labels)
    else:
        parquet.write_table(pa.table({"text": ["a"] * len(labels), "label": labels}), path)
    places = [names.index(str(label)) for label in labels]
    for given in (None, names):
        dataset = load_dataset(path, given)
        assert dataset.labels == names
        assert [example.label for example in dataset.examples] == places


def test_integers_are_indices_only_where_none_of_them_is_a_name(tmp_path: Path) -> None:
    indices = json_lines(tmp_path / "a.jsonl", [1, 0])
    assert [example.label for example in load_dataset(indices, ("no", "yes")).examples] == [1, 0]
    mixed = json_lines(tmp_path / "b.jsonl", [0, 1])
    with pytest.raises(DataError, match=r"b.jsonl:2: label '1' is not one of \['0', '2'\]"):
        load_dataset(mixed, ("0", "2"))


@pytest.mark.parametrize(
    "cells", [["01", "1"], ["1", "2", "unknown"], ["-0", "0"], ["9" * 5000, "9"]]
)
def test_a_column_of_csv_that_is_not_all_integers_holds_names(
    cells: list[str], tmp_path: Path
) -> None:
    assert found(separated(tmp_path / "a.csv", cells)) == cells
    assert found(separated(tmp_path / "dev.csv", cells[:1]), cells) == cells[:1]


def test_the_word_that_makes_names_of_integers_is_shown(tmp_path: Path) -> None:
    declare(tmp_path, ["no", "yes"])
    with pytest.raises(DataError, match=r"a.csv:3: label 'x' is not one of \['no', 'yes'\]"):
        load_dataset(separated(tmp_path / "a.csv", [0, "x", 1]))


def test_a_cell_that_reads_as_missing_is_a_label_where_it_is_declared(tmp_path: Path) -> None:
    path = separated(tmp_path / "a.csv", ["NA", "EU"])
    with pytest.raises(DataError, match=r"a.csv:2: label 'NA' is how a missing value is written"):
        load_dataset(path)
    assert found(path, ["EU", "NA"]) == ["NA", "EU"]
    declare(tmp_path, ["EU", "NA"])
    assert found(path) == ["NA", "EU"]
    assert found(json_lines(tmp_path / "a.jsonl", ["NA", "EU"])) == ["NA", "EU"]


def test_whole_floats_are_integers(tmp_path: Path) -> None:
    assert found(json_lines(tmp_path / "a.jsonl", [1.0, 0.0])) == ["1", "0"]
    parquet.write_table(pa.table({"text": ["a", "b"], "label": [1.0, 0.0]}), tmp_path / "a.parquet")
    assert found(tmp_path / "a.parquet", ("no", "yes")) == ["yes", "no"]


@pytest.mark.parametrize("names", [("1", "2", "3"), ("4711", "4712"), ("01", "02")])
def test_where_names_are_numbers_an_integer_that_is_none_is_no_index(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    dev = json_lines(tmp_path / "dev.jsonl", [0])
    with pytest.raises(DataError, match=r"dev.jsonl:1: label '0' is not one of"):
        load_dataset(dev, names)
    declare(tmp_path, names)
    with pytest.raises(DataError, match=r"dev.jsonl:1: label '0' is not one of"):
        load_dataset(dev)


def test_names_where_training_had_integers_are_told_of_the_file_that_names_them(
    tmp_path: Path,
) -> None:
    dev = json_lines(tmp_path / "dev.jsonl", ["no"])
    with pytest.raises(DataError, match=r"label 'no' is not one of .*; a labels.json beside"):
        load_dataset(dev, ("0", "1"))


def test_integers_beside_declared_names(tmp_path: Path) -> None:
    declare(tmp_path, ["1", "2", "unknown"])
    assert found(separated(tmp_path / "train.csv", [1, 2, "unknown"])) == ["1", "2", "unknown"]
    assert found(separated(tmp_path / "dev.csv", [1, 2])) == ["1", "2"]
    declare(tmp_path, ["-1", "1"])
    assert found(separated(tmp_path / "signs.csv", [1, -1])) == ["1", "-1"]
    assert found(json_lines(tmp_path / "signs.jsonl", [1, -1])) == ["1", "-1"]
    declare(tmp_path, ["1", "0"])
    assert found(json_lines(tmp_path / "a.jsonl", [0, 0])) == ["1", "1"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('{"labels": "np"}', r"must hold \{.labels.: \[...\]}, a list"),
        ('{"labels": []}', "must hold"),
        ('["n", "p"]', "must hold"),
        ('{"labels": ["n", " "]}', "label 2 is ' ', which is no name"),
        ('{"labels": ["n", null]}', "label 2 is None, which is no name"),
        ('{"labels": ["n", "n"]}', "label 2, 'n', is there already"),
        ('{"labels": ["n", "\\ud800"]}', r"label 2, '\\ud800', holds half a character"),
        ('{"labels', "cannot be read"),
    ],
)
def test_bad_declarations(text: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DataError, match=f"labels.json: {cause}"):
        load_dataset(json_lines(tmp_path / "a.jsonl", ["n", "p"]))


def test_names_are_looked_for_beside_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "films").mkdir()
    made = datasets.Dataset.from_list([{"text": "a", "label": 1}, {"text": "b", "label": 0}])
    made.to_parquet(tmp_path / "films" / "train.parquet")
    declare(tmp_path, ["wrong", "names"])
    monkeypatch.chdir(tmp_path)
    assert load_dataset("films:train").labels == ("0", "1")


def test_labels_split_over_files(tmp_path: Path) -> None:
    yes, no = (json_lines(tmp_path / f"{name}.jsonl", [name]) for name in ("yes", "no"))
    both = json_lines(tmp_path / "both.jsonl", ["yes", "maybe"])
    with pytest.raises(
        DataError, match=r"one label only, 'yes'.*of .*yes.jsonl, and a labels.json"
    ):
        load_datasets([yes, no])
    with pytest.raises(DataError, match=r"no.jsonl:1: .*of .*both.jsonl, and a labels.json beside"):
        load_datasets([both, no])
    named = load_datasets([yes, no], labels=("no", "yes"))
    assert [example.label for example in named.examples] == [1, 0]
    with pytest.raises(DataError, match=r"yes.jsonl:1: label 'yes' is not one of \['no', 'or'\]$"):
        load_datasets([no, yes], labels=("no", "or"))
    declare(tmp_path, ["no", "yes"])
    assert [example.label for example in load_datasets([yes, no]).examples] == [1, 0]
