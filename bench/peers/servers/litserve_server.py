"""LitServe around the same forward: batches of what comes within the wait."""

import litserve as ls
from forward import FullDepth
from settings import read_settings


class Classify(ls.LitAPI):
    """Text in, label out."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        del device
        told = read_settings()
        self.model = FullDepth(told.model, told.threads, spins=told.spins)

    def decode_request(self, request: dict[str, str]) -> str:
        """The text."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Texts stay a list."""
        return inputs

    def unbatch(self, output: list[str]) -> list[str]:
        """Labels are a list already."""
        return output

    def predict(self, x: str | list[str]) -> str | list[str]:
        """Labels of one text or of a batch."""
        return self.model.labels([x])[0] if isinstance(x, str) else self.model.labels(x)

    def encode_response(self, output: str) -> dict[str, str]:
        """The label."""
        return {"label": output}


if __name__ == "__main__":
    told = read_settings()
    api = Classify(max_batch_size=told.batch, batch_timeout=told.wait if told.batch > 1 else 0.0)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=told.workers)
    server.run(host="127.0.0.1", port=told.port, generate_client_file=False, log_level="error")
