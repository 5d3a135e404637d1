"""A gRPC client that never reads: it lets the server send nothing of an answer's body."""

import socket
import struct
from types import TracebackType
from typing import Self

HEADERS, DATA, SETTINGS = 1, 0, 4
END_HEADERS, END_STREAM = 4, 1
INITIAL_WINDOW_SIZE = 4


class UnreadCall:
    """One call over a connection of its own, with a message; leaves when it is left."""

    def __init__(self, address: str, path: str, message: bytes, *, last: bool = True) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        no_window = struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)
        start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, no_window)
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "test",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        headers = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
        body = struct.pack(">BI", 0, len(message)) + message
        self._socket.sendall(
            start
            + _frame(HEADERS, END_HEADERS, 1, headers)
            + _frame(DATA, END_STREAM if last else 0, 1, body)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()
