"""The sending half of a synchronous stream: an iterable read ahead, a window at most."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextvars import copy_context

from offramp.client.core import Text
from offramp.client.exchange import WINDOW, Exchange
from offramp.v1 import classifier_service_pb2 as service_pb


class Feed:
    """Reads texts on a thread of its own and groups whatever is there into messages.

    A slow iterable is sent text by text, a quick one in full messages, and neither waits for the
    other. It sees the context variables of whoever starts this. `error` is what it raised, if it
    did.
    """

    def __init__(self, texts: Iterable[Text], exchange: Exchange) -> None:
        self.error: BaseException | None = None
        self._texts = texts
        self._exchange = exchange
        self._room = threading.Semaphore(WINDOW)
        self._ready: queue.SimpleQueue[service_pb.CorrelatedInput | None] = queue.SimpleQueue()
        self._closed = False

    def start(self) -> None:
        """Begin to read, once there is a call: without one, nobody would close this."""
        run = copy_context().run
        threading.Thread(target=run, args=(self._read,), name="offramp-feed", daemon=True).start()

    def messages(self) -> Iterator[service_pb.StreamClassifyTextRequest]:
        """The messages to send, until the texts end."""
        while (first := self._ready.get()) is not None:
            yield self._exchange.message(first, self._more)

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
            for text in self._texts:
                self._room.acquire()
                if self._closed:
                    return
                self._ready.put(self._exchange.outgoing(text))
        except BaseException as error:  # noqa: BLE001 - raised again where the answers are read
            self.error = error
        finally:
            self._ready.put(None)

    def _more(self) -> service_pb.CorrelatedInput | None:
        try:
            item = self._ready.get_nowait()
        except queue.Empty:
            return None
        if item is None:
            self._ready.put(None)  # the end, for `messages` to find
        return item
