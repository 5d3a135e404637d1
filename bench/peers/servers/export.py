"""An offramp checkpoint at full depth as an ONNX graph, the way ONNX Runtime likes it best.

The graph is written with the fused operators that ONNX Runtime's own transformer optimizer would
put in (attention, bias with GELU, residual with layer norm), so that peers run at their best. It
computes what our full depth computes, the last exit's layer mix included: `ids` and `mask` are
int64 and int32 `[rows, length]`, `logits` `[rows, labels]`. Needs onnx, numpy and safetensors.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

CONTRIB = "com.microsoft"
FUSED = {"Attention", "BiasGelu", "SkipLayerNormalization"}


class Graph:
    """Nodes and weights of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, value: np.ndarray) -> str:
        """Add a constant."""
        self.weights.append(numpy_helper.from_array(value.copy(order="C"), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Add an operator with one output."""
        domain = CONTRIB if kind in FUSED else ""
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output


def export(checkpoint: Path, output: Path) -> None:
    """Write the graph of a BERT-like checkpoint that pools by the mean or by attention."""
    model = json.loads((checkpoint / "config.json").read_text())["model"]
    shape = model["encoder"]
    if model["pooling"] == "cls" or shape["activation"] != "gelu" or shape["position_offset"]:
        raise SystemExit("only BERT checkpoints with GELU that pool all tokens are exported")
    state = load_file(checkpoint / "model.safetensors")
    weights = {name: value.astype(np.float32) for name, value in state.items()}
    epsilon = shape["layer_norm_eps"]
    graph = Graph()
    for name, value in weights.items():
        matrix = name.startswith("encoder.layers") and value.ndim == 2
        graph.weight(name, value.T if matrix else value)

    graph.weight("zero", np.array(0, np.int64))
    graph.weight("one", np.array(1, np.int64))
    graph.weight("axis_one", np.array([1], np.int64))
    graph.node("Shape", ["ids"], "length_only", start=1, end=2)
    graph.node("Squeeze", ["length_only"], "length")
    graph.node("Range", ["zero", "length", "one"], "positions")
    graph.node("Gather", ["encoder.embeddings.word.weight", "ids"], "words")
    graph.node("Gather", ["encoder.embeddings.position.weight", "positions"], "places")
    hidden = graph.node("Add", ["words", "places"], "embedded")
    if shape["token_types"]:
        graph.weight("type_zero", weights["encoder.embeddings.token_type.weight"][0])
        hidden = graph.node("Add", [hidden, "type_zero"], "typed")
    norm = "encoder.embeddings.norm"
    hidden = graph.node(
        "LayerNormalization", [hidden, f"{norm}.weight", f"{norm}.bias"], "normed", epsilon=epsilon
    )

    graph.node("Cast", ["mask"], "mask_float", to=TensorProto.FLOAT)
    graph.node("Log", ["mask_float"], "mask_scores")
    graph.node("ReduceSum", ["mask_float", "axis_one"], "lengths", keepdims=1)
    graph.node("Div", ["mask_float", "lengths"], "mean_weights")
    graph.node("Unsqueeze", ["mean_weights", "axis_one"], "mean_row")
    queries = weights["queries"] if model["pooling"] == "attention" else None
    pooled = []
    for index in range(shape["layers"]):
        hidden = _layer(graph, index, hidden, shape["heads"], epsilon)
        row = "mean_row" if queries is None else _weigh(graph, index, hidden, queries[index])
        pooled.append(graph.node("MatMul", [row, hidden], f"pooled.{index}"))

    head = f"heads.{len(model['exit_layers']) - 1}"
    mix = np.exp(weights[f"{head}.mix"] - weights[f"{head}.mix"].max())
    graph.weight("mix", (mix / mix.sum())[None, :])
    graph.node("Concat", pooled, "all_pooled", axis=1)
    graph.node("MatMul", ["mix", "all_pooled"], "mixed_row")
    graph.node("Squeeze", ["mixed_row", "axis_one"], "mixed")
    graph.node(
        "Gemm", ["mixed", f"{head}.linear.weight", f"{head}.linear.bias"], "logits", transB=1
    )
    used = {name for node in graph.nodes for name in node.input}
    proto = helper.make_graph(
        graph.nodes,
        "full_depth",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", "length"]),
            helper.make_tensor_value_info("mask", TensorProto.INT32, ["rows", "length"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", "labels"])],
        [weight for weight in graph.weights if weight.name in used],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
    onnx.save(helper.make_model(proto, opset_imports=opsets, ir_version=9), output)


def _layer(graph: Graph, index: int, hidden: str, heads: int, epsilon: float) -> str:
    own = f"encoder.layers.{index}"
    context = graph.node(
        "Attention",
        [hidden, f"{own}.qkv.weight", f"{own}.qkv.bias", "mask"],
        f"{own}.context",
        num_heads=heads,
    )
    attended = graph.node("MatMul", [context, f"{own}.attention_out.weight"], f"{own}.attended")
    hidden = graph.node(
        "SkipLayerNormalization",
        [attended, hidden, *_norm(own, "attention_norm"), f"{own}.attention_out.bias"],
        f"{own}.middle",
        epsilon=epsilon,
    )
    up = graph.node("MatMul", [hidden, f"{own}.up.weight"], f"{own}.raised")
    activated = graph.node("BiasGelu", [up, f"{own}.up.bias"], f"{own}.activated")
    down = graph.node("MatMul", [activated, f"{own}.down.weight"], f"{own}.lowered")
    return graph.node(
        "SkipLayerNormalization",
        [down, hidden, *_norm(own, "norm"), f"{own}.down.bias"],
        f"{own}.output",
        epsilon=epsilon,
    )


def _weigh(graph: Graph, index: int, hidden: str, query: np.ndarray) -> str:
    """The tokens' weights in a layer's pooled vector, by its query."""
    own = f"pool.{index}"
    graph.weight(f"{own}.query", query)
    scores = graph.node("MatMul", [hidden, f"{own}.query"], f"{own}.scores")
    masked = graph.node("Add", [scores, "mask_scores"], f"{own}.masked")
    weights = graph.node("Softmax", [masked], f"{own}.weights", axis=1)
    return graph.node("Unsqueeze", [weights, "axis_one"], f"{own}.row")


def _norm(own: str, name: str) -> tuple[str, str]:
    return f"{own}.{name}.weight", f"{own}.{name}.bias"


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    export(args.checkpoint, args.output)


if __name__ == "__main__":
    main()
