"""LitServe around the same forward; batches of what comes within a millisecond."""

import argparse

import litserve as ls
from forward import FullDepth


class Classify(ls.LitAPI):
    """Text in, label out."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        del device
        self.model = FullDepth()

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    api = Classify(max_batch_size=args.batch, batch_timeout=0.001 if args.batch > 1 else 0.0)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="error")
