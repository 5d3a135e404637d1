"""Whatever is wrong with data is told with its place before anything is trained."""

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from offramp.training.data import Dataset, Example, load_dataset, load_datasets, load_unlabelled
from offramp.training.records import Columns, DataError

RECORDS: tuple[dict[str, Any], ...] = (
    {"text": "fine, film", "text_pair": "why\nnot", "label": "yes"},
    {"text": "hard", "text_pair": "so", "label": "no"},
)
EXPECTED = (Example("fine, film", "why\nnot", 1), Example("hard", "so", 0))


def json_lines(path: Path, records: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_every_format_gives_the_same_examples(tmp_path: Path) -> None:
    plain = json_lines(tmp_path / "a.jsonl", RECORDS)
    zipped = tmp_path / "a.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    table = pa.Table.from_pylist(list(RECORDS))
    parquet.write_table(table, tmp_path / "a.parquet")
    for path in (plain, zipped, tmp_path / "a.parquet"):
        assert load_dataset(path) == Dataset(EXPECTED, ("no", "yes"))


def test_inputs_that_are_told_twice_and_otherwise() -> None:
    labels = (("fine", 1), ("fine", 0), ("fine", 2), ("hard", 0), ("hard", 0), ("odd", 1))
    examples = tuple(Example(text, None, label) for text, label in labels)
    dataset = Dataset(examples, ("no", "yes", "perhaps"))
    assert dataset.inputs == {("fine", None), ("hard", None), ("odd", None)}
    assert dataset.contradictions == 1


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
def test_cells_with_commas_and_line_breaks(tmp_path: Path, name: str, delimiter: str) -> None:
    with (tmp_path / name).open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["sentence", "kind"], ["fine, film\nindeed", "1"], ["hard", "0"]])
    dataset = load_dataset(tmp_path / name, columns=Columns(text="sentence", label="kind"))
    assert dataset.labels == ("0", "1")
    assert [example.label for example in dataset.examples] == [1, 0]
    assert dataset.examples[0].text == "fine, film\nindeed"


def test_a_dataset_of_the_hugging_face_library_keeps_its_label_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    made = datasets.Dataset.from_list(
        [{"text": "fine", "label": 1}, {"text": "hard", "label": 0}], features=features
    )
    (tmp_path / "films").mkdir()
    made.to_parquet(tmp_path / "films" / "train.parquet")
    dataset = load_dataset(f"{tmp_path / 'films'}:train")
    assert dataset.labels == ("no", "yes")
    assert dataset.examples[0] == Example("fine", None, 1)
    with pytest.raises(DataError, match="cannot be loaded"):
        load_dataset(f"{tmp_path / 'films'}:other")


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ('{"text": "a", "label": 0}\n{"text": "b"}', "a.jsonl:2: has no label"),
        ('{"text": "a", "label": true}', "a.jsonl:1: label true is neither a name, in quotes, nor"),
        ('{"text": "a", "label": ["x"]}', 'label \\["x"\\] is neither a name'),
        ('{"text": 5, "label": 0}', "a.jsonl:1: text is 5, which is no text"),
        ('[\n{"text": "a", "label": 0}]', "a.jsonl:1: is not JSON: Expecting value"),
        ('{"text": "a", "label": " \\t"}', "a.jsonl:1: has no label"),
        ('{"text": "a", "label": NaN}', "a.jsonl:1: has no label"),
        ('{"text": "a", "label": 0.5}', "a.jsonl:1: label 0.5 is not a whole number"),
        ('{"text": "a", "label": "\\ud800"}', "a.jsonl:1: 'label' holds half a character"),
        ('{"text": "a", "label": "no"}', "a.jsonl: has one label only, 'no'; it takes two$"),
        ('{"text": " ", "label": 0}', "a.jsonl:1: has no text"),
        ('{"text": "a", "label": 0}\n\n{"text', "a.jsonl:3: is not JSON"),
        ("[1]", "a.jsonl:1: must be a JSON object"),
        ('{"text": "a", "text_pair": 3, "label": 0}', "a.jsonl:1: text_pair"),
        ('{"text": "a", "label": -2}', "a.jsonl:1: label -2 is negative"),
        ('{"text": "a", "label": 0}\n{"text": "a", "label": "no"}', "mixes label names"),
        ("", "holds no examples"),
        ('{"text": "a", "label": 0}\n{"text": "b", "label": "no"}', "a.jsonl:2: mixes label"),
        ('{"text": "a\\ud800", "label": 0}', "a.jsonl:1: 'text' holds half a character"),
        ('{"text": "a", "text_pair": "\\udfff", "label": 0}', "a.jsonl:1: 'text_pair' holds half"),
        (
            '{"text": "a", "label": 0}\n{"text": "a", "label": ' + "9" * 5000,
            "a.jsonl:2: is not JSON",
        ),
        ('{"text": "a", "label": ' + "[" * 10**6, "a.jsonl:1: is not JSON"),
    ],
    ids=lambda case: case[:60],
)
def test_bad_json_lines(tmp_path: Path, lines: str, cause: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines)
    with pytest.raises(DataError, match=cause):
        load_dataset(path)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("text,label\na,1\nb\n", "a.csv:3: has 1 cells, line 1 has 2"),
        ("text,label\na,1\nb,2,3\n", "a.csv:3: has 3 cells, line 1 has 2"),
        ("words,label\na,1\n", "a.csv:1: has no column 'text': name one of words"),
        ("text,label\na,\n", "a.csv:2: has no label"),
        ("text,label\na,pos\nb,neg\nc, pos\n", "a.csv:4: labels ' pos' and 'pos' differ"),
        ('text,label\nb,0\n"a,1\n\n', "a.csv:3: is not readable as CSV"),
        ('text,label\n"a\nb",1\n\n"c\nd"\n', "a.csv:5: has 1 cells, line 1 has 2"),
        ("text,label\na,1\nb, \n", "a.csv:3: has no label"),
        ("text,label\na,1\nb,NaN\nc,0\n", "a.csv:3: label 'NaN' is how a missing value"),
        ("text,label\na,no\nb,None\n", "a.csv:3: label 'None' is how .* in a labels.json"),
        ("text,text,label\na,b,1\n", "a.csv:1: has 2 columns 'text'"),
    ],
    ids=lambda case: case[:40],
)
def test_bad_csv(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=cause):
        load_dataset(tmp_path / "a.csv")


def test_labels_of_dev_must_have_been_trained_on(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"labels": ["no", "yes", "perhaps"]}')
    train = load_dataset(json_lines(tmp_path / "train.jsonl", RECORDS))
    assert train.labels == ("no", "yes", "perhaps")
    unseen = json_lines(
        tmp_path / "dev.jsonl", [{"text": "x", "label": "no"}, {"text": "x", "label": "perhaps"}]
    )
    with pytest.raises(DataError, match=r"dev.jsonl:2: label 'perhaps' has no training example"):
        load_dataset(unseen, train.labels, seen=train.labels_seen)
    unknown = json_lines(tmp_path / "dev.jsonl", [{"text": "x", "label": "never"}])
    with pytest.raises(DataError, match=r"dev.jsonl:1: label 'never' is not one of"):
        load_dataset(unknown, train.labels)


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.parquet").write_text("x")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
    zipped = gzip.compress(b'{"text": "a", "label": 0}', mtime=0)
    (tmp_path / "b.jsonl.gz").write_bytes(zipped[:10] + b"\xff" + zipped[11:])
    (tmp_path / "line.jsonl").write_bytes(b'{"text": "a", "label": 0}\n{"text": "\xe9"}\n')
    (tmp_path / "line.csv").write_bytes(b"text,label\na,0\n\xe9,1\n")
    for name, cause in {
        "a.txt": "is no file that ends in",
        "missing.jsonl": "cannot be read",
        "a.parquet": "not readable as Parquet",
        "bytes.jsonl": "cannot be read",
        "a.jsonl.gz": "cannot be read",
        "b.jsonl.gz": "cannot be read",
        "line.jsonl": "line.jsonl:2: cannot be read",
        "line.csv": "line.csv:3: cannot be read",
    }.items():
        with pytest.raises(DataError, match=cause):
            load_dataset(tmp_path / name)


def test_several_sources_and_texts_alone(tmp_path: Path) -> None:
    first = json_lines(tmp_path / "a.jsonl", RECORDS)
    second = json_lines(tmp_path / "b.jsonl", RECORDS[1:])
    assert load_datasets([first, second]).examples == (*EXPECTED, EXPECTED[1])
    assert [example.label for example in load_unlabelled([first, second])] == [-1] * 3


def test_no_texts_and_a_second_text_that_is_in_no_record(tmp_path: Path) -> None:
    full = json_lines(tmp_path / "a.jsonl", RECORDS)
    empty = json_lines(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError, match=r"empty.jsonl: holds no examples"):
        load_unlabelled([full, empty])
    load_dataset(full, columns=Columns(text_pair="text_pair"))
    with pytest.raises(DataError, match=r"a.jsonl: has no second text in 'hypothesis'"):
        load_dataset(full, columns=Columns(text_pair="hypothesis"))


def test_a_second_text_is_in_all_records_or_in_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,text_pair,label\na,,1\nb, ,0\n")
    assert [example.text_pair for example in load_dataset(path).examples] == [None, None]
    with pytest.raises(DataError, match=r"a.csv: has no second text in 'label2'"):
        load_dataset(path, columns=Columns(text_pair="label2"))
    path.write_text("text,text_pair,label\na,c,1\nb,,0\n")
    lines = json_lines(tmp_path / "b.jsonl", [{"text": "a"}, {"text": "b", "text_pair": "c"}])
    with pytest.raises(DataError, match=r"a.csv:3: has no second text in 'text_pair', where"):
        load_dataset(path)
    with pytest.raises(DataError, match=r"b.jsonl:1: has no second text in 'text_pair', where"):
        load_unlabelled([lines])


def test_long_cells(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("text,label\n" + "a" * 2**18 + ",1\nb,0\n")
    assert len(load_dataset(tmp_path / "a.csv").examples[0].text) == 2**18
    (tmp_path / "a.csv").write_text("text,label\n" + "a" * (2**24 + 1) + ",1\n")
    with pytest.raises(DataError, match="is not readable as CSV: field larger"):
        load_dataset(tmp_path / "a.csv")
    assert csv.field_size_limit() == limit
