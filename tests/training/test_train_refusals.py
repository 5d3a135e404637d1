"""What `offramp train` will not do, told before it has read or written anything."""

import json
from pathlib import Path

import pytest
from tiny import MAX_TOKENS, WORDS, tiny_checkpoint
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from offramp.cli.calibrate import main as calibrate
from offramp.cli.evaluate import main as evaluate
from offramp.cli.train import main as train


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A training of one step on two texts, into `out`."""
    data = tmp_path / "data.jsonl"
    records = [{"text": "easy film", "label": "yes"}, {"text": "hard film", "label": "no"}]
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    encoder = tiny_checkpoint(tmp_path / "encoder")
    return [
        *("--data", str(data), "--dev", str(data), "--encoder", str(encoder)),
        *("--output", str(tmp_path / "out"), "--recipe", "joint", "--epochs", "1"),
    ]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_finished_checkpoint_is_not_trained_over(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tiny_checkpoint(tmp_path / "out"))
    assert train(command) == 1
    assert "out holds a model already; give another --output" in capsys.readouterr().err
    assert train([*command, "--resume"]) == 0
    assert "out is already finished" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resumed"])
def test_an_encoder_is_not_trained_over(
    resume: list[str], command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    assert train([*command, *resume]) == 1
    assert "out holds a model already" in capsys.readouterr().err
    assert contents(tmp_path / "out") == {"config.json": b"{}"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--last-exit-epochs 7", "--last-exit-epochs is for --recipe mixed, not joint"),
        ("--recipe alternating --last-exit-epochs 1", "is for --recipe mixed, not alternating"),
        ("--query-learning-rate 1e-3", "--query-learning-rate is for --pooling attention"),
        ("--preset paper --query-learning-rate 1e-3", "is for --pooling attention, not cls"),
        ("--teacher {tmp}/encoder --distillation 0", "no say at --distillation 0"),
        ("--preset paper --teacher {tmp}/encoder", "no say at --distillation 0"),
        ("--max-tokens 17", "max_tokens must be in 3 to 16, not 17"),
        ("--preset paper --max-tokens 512", "max_tokens must be in 3 to 16, not 512"),
        ("--learning-rate nan", "learning_rate must be 0 or more and finite, not nan"),
        ("--save-seconds -1", "save_seconds must be 0 or more, not -1"),
    ],
)
def test_options_that_nothing_would_come_of_are_refused(
    options: str,
    sentence: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train([*command, *options.format(tmp=tmp_path).split()]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--preset paper",
        "--recipe mixed --last-exit-epochs 0",
        "--pooling attention --query-learning-rate 1e-3",
        "--teacher {tmp}/encoder --distillation 0 --unlabelled {tmp}/data.jsonl",
    ],
)
def test_defaults_are_no_reason_to_refuse(options: str, command: list[str], tmp_path: Path) -> None:
    assert train([*command, *options.format(tmp=tmp_path).split()]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model"]["max_tokens"] == MAX_TOKENS


def test_a_label_that_no_example_has_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, data = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "data.jsonl"
    data.write_text((json.dumps({"text": "easy film", "label": "yes"}) + "\n") * 60)
    assert calibrate(["--checkpoint", str(checkpoint), "--data", str(data)]) == 0
    assert "no example has the label no" in capsys.readouterr().err


def test_data_may_be_given_more_than_once(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(["--data", str(tmp_path / "missing.jsonl"), *command]) == 1
    assert "missing.jsonl" in capsys.readouterr().err


def test_a_model_of_single_texts_is_not_calibrated_or_evaluated_on_pairs(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(command) == 0
    pairs = tmp_path / "pairs.jsonl"
    record = {"text": "easy film", "text_pair": "hard film", "label": "yes"}
    pairs.write_text((json.dumps(record) + "\n") * 30)
    for verb in (calibrate, evaluate):
        assert verb(["--checkpoint", str(tmp_path / "out"), "--data", str(pairs)]) == 1
        assert "'text_pair', where single texts are expected" in capsys.readouterr().err


def pairs_of(command: list[str], tmp_path: Path) -> list[str]:
    """The same command on pairs of texts."""
    pairs = tmp_path / "pairs.jsonl"
    record = {"text": "easy film", "text_pair": "hard film"}
    told = [json.dumps({**record, "label": label}) + "\n" for label in ("yes", "no")]
    pairs.write_text("".join(told))
    return [*command[:1], str(pairs), "--dev", str(pairs), *command[4:]]


def test_a_teacher_of_single_texts_does_not_teach_pairs(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(command) == 0
    teacher = (tmp_path / "out").rename(tmp_path / "teacher")
    assert train([*pairs_of(command, tmp_path), "--teacher", str(teacher)]) == 1
    assert "the teacher learned of single texts, the data has pairs" in capsys.readouterr().err
    assert train([*command, "--teacher", str(teacher)]) == 0


def test_an_encoder_without_the_token_types_of_pairs_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = BertModel(
        BertConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=MAX_TOKENS,
            type_vocab_size=1,
        )
    )
    encoder = tmp_path / "one-type"
    model.save_pretrained(encoder)
    tokens = Tokenizer.from_file(str(tmp_path / "encoder" / "tokenizer.json"))
    PreTrainedTokenizerFast(tokenizer_object=tokens).save_pretrained(encoder)  # type: ignore[no-untyped-call]
    own = ["--encoder", str(encoder), "--output", str(tmp_path / "of-pairs")]
    assert train([*pairs_of(command, tmp_path), *own]) == 1
    assert "token types up to 1, its embeddings are of 1" in capsys.readouterr().err
    assert train([*command, "--encoder", str(encoder)]) == 0


def test_a_text_of_which_no_token_is_left_is_told(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = tmp_path / "encoder" / "tokenizer.json"
    bare = json.loads(definition.read_text()) | {"post_processor": None}
    definition.write_text(json.dumps(bare))
    with (tmp_path / "data.jsonl").open("a") as data:
        data.write(json.dumps({"text": "\u200b", "label": "no"}) + "\n")
    assert train(command) == 1
    assert "the tokenizer leaves no token of the text '\\u200b'" in capsys.readouterr().err


def test_why_nothing_leaves_early_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, data = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "data.jsonl"
    lines = [json.dumps({"text": "easy film", "label": "yes"}) + "\n"] * 60
    data.write_text("".join(lines))
    command = ["--checkpoint", str(checkpoint), "--data", str(data)]
    assert calibrate([*command, "--max-accuracy-drop", "0.01"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "45 examples can't promise more; give more of them" in told


@pytest.mark.parametrize("option", ["--dev", "--data", "--unlabelled"])
def test_single_texts_and_pairs_are_not_trained_on_together(
    option: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        '{"text": "easy", "text_pair": "film", "label": "yes"}\n'
        '{"text": "hard", "text_pair": "film", "label": "no"}\n'
    )
    more = [str(pairs)] if option != "--data" else [str(pairs), command[1]]
    assert train([*command, option, *more]) == 1
    assert "second text in 'text_pair'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
