"""The texts that are sent, read and looked at before a run begins."""

from pathlib import Path

from offramp.cli.texts import read_file
from offramp.client import Text


def read_inputs(path: Path) -> list[Text]:
    """Texts of a file, one a line, or JSON objects with a `text`; gzipped or not.

    Raises ValueError naming the line or the file that is no such, OSError where it can't be read.
    """
    texts = [text for text in read_file(path) if all(map(str.strip, _parts(text)))]
    if not texts:
        raise ValueError(f"{path} holds no texts")
    for text in texts:
        try:
            "".join(_parts(text)).encode()
        except UnicodeEncodeError:
            begins = "".join(_parts(text))[:40]
            raise ValueError(f"{path} is not UTF-8 in a line that begins {begins!r}") from None
    return texts


def read_texts(path: Path) -> list[str]:
    """The same of a file of single texts; ValueError of one that holds pairs."""
    texts = read_inputs(path)
    single = [text for text in texts if isinstance(text, str)]
    if len(single) < len(texts):
        raise ValueError(f"{path} holds pairs, where single texts are expected")
    return single


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text
