"""The sending half of a synchronous stream: an iterable read ahead, a window at most."""

import queue
import threading
from collections.abc import Iterable, Iterator

from offramp.client.core import INPUTS_PER_MESSAGE, WINDOW, Text, correlated_input
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb


class Feed:
    """Reads texts on a thread of its own and groups whatever is there into messages.

    A slow iterable is sent text by text, a quick one in full messages, and neither waits for the
    other. `error` is what the iterable raised, if it did.
    """

    def __init__(self, texts: Iterable[Text], options: pb.ClassifyOptions) -> None:
        self.error: BaseException | None = None
        self._texts = texts
        self._options = options
        self._room = threading.Semaphore(WINDOW)
        self._ready: queue.SimpleQueue[service_pb.CorrelatedInput | None] = queue.SimpleQueue()
        self._closed = False
        threading.Thread(target=self._read, name="offramp-feed", daemon=True).start()

    def messages(self) -> Iterator[service_pb.StreamClassifyTextRequest]:
        """The messages to send, until the texts end."""
        more = True
        while more and (first := self._ready.get()) is not None:
            inputs = [first]
            while more and len(inputs) < INPUTS_PER_MESSAGE and not self._ready.empty():
                item = self._ready.get()
                if item is None:
                    more = False
                else:
                    inputs.append(item)
            yield service_pb.StreamClassifyTextRequest(inputs=inputs, options=self._options)

    def answered(self) -> None:
        """Make room for one more text."""
        self._room.release()

    def close(self) -> None:
        """Read no further."""
        self._closed = True
        self._room.release()
        self._ready.put(None)

    def _read(self) -> None:
        try:
            for index, text in enumerate(self._texts):
                self._room.acquire()
                if self._closed:
                    return
                self._ready.put(correlated_input(index, text))
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are read
            self.error = error
        finally:
            self._ready.put(None)
