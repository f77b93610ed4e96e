"""The ONNX graph of a student that chooses among labels: from token ids to log-probabilities and energy.

The graph is one pass of the encoder and one of the decoder over the tree of the labels' tokens, as
:mod:`gold_lightning.t5.label_scoring` defines it. It is written operator by operator rather than traced: PyTorch's
exporter takes a minute for it, fails on some versions of the model's code, and stores tied embeddings twice once they
are quantised. The parity table of each export compares its answers with the model's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from gold_lightning.exporting.graph_builder import GraphBuilder
from gold_lightning.exporting.weight_formats import Float32, Int8, WeightFormat
from gold_lightning.t5.label_scoring import EQUAL, LabelTree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["label_graph"]

_HIDDEN = np.float32(-1e9)
"""Added to the logit of what a softmax must not see."""

_GELU_TANH = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


def label_graph(model: PreTrainedModel, tree: LabelTree, *, int8: bool = False) -> Any:
    """Returns the graph as an ``onnx.ModelProto``.

    Its inputs are ``input_ids`` and ``attention_mask``, (batch, length) int64. Its outputs are ``log_probs``, (batch,
    labels); ``best``, (batch,) int64, the position of the likeliest label; and ``energy``, (batch,), of that label.

    Args:
        model: The T5, on the CPU.
        tree: The labels.
        int8: Store matrices in 8 bits.
    """
    graph = GraphBuilder()
    return _LabelGraph(graph, (Int8 if int8 else Float32)(graph), model, tree).build()


class _LabelGraph:
    def __init__(self, graph: GraphBuilder, weights: WeightFormat, model: PreTrainedModel, tree: LabelTree) -> None:
        self.graph, self.weights, self.model, self.tree = graph, weights, model, tree
        self.config: Any = model.config
        self.tensors = {name: tensor for name, tensor in model.state_dict().items()}

    def build(self) -> Any:
        add, constant = self.graph.add, self.graph.constant
        is_padding = add("Sub", constant(1), add("Unsqueeze", "attention_mask", constant([1, 2])))
        self.padding = add("Mul", self.graph.cast(is_padding, "FLOAT"), constant(_HIDDEN))  # (batch, 1, 1, length)
        encoded = self.encoder()
        states = self.decoder(encoded)
        log_probs, best, energy = self.outputs(states)
        length = ["batch", "length"]
        return self.graph.model(
            {"input_ids": ("INT64", length), "attention_mask": ("INT64", length)},
            {
                "log_probs": (log_probs, "FLOAT", ["batch", len(self.tree.labels)]),
                "best": (best, "INT64", ["batch"]),
                "energy": (energy, "FLOAT", ["batch"]),
            },
        )

    def array(self, name: str) -> NDArray[np.float32]:
        array: NDArray[np.float32] = self.tensors[name].float().numpy()
        return array

    def linear(self, values: str, name: str) -> str:
        return self.weights.linear(values, self.array(name), name)

    def norm(self, values: str, name: str) -> str:
        add, constant = self.graph.add, self.graph.constant
        squares = add("ReduceMean", add("Pow", values, constant(2.0)), constant([-1]))
        root = add("Sqrt", add("Add", squares, constant(self.config.layer_norm_epsilon)))
        return add("Mul", add("Div", values, root), constant(self.array(name), name))

    def attention(self, queries: str, keys: str, bias: str, name: str) -> str:
        """Multi-head attention; ``queries`` and ``keys`` are (batch, length, hidden), the bias is added to scores."""
        add = self.graph.add
        if queries == keys:
            query, key, value = self.heads(queries, name, "qkv")
        else:
            (query,) = self.heads(queries, name, "q")
            key, value = self.heads(keys, name, "kv")
        scores = add("MatMul", query, add("Transpose", key, perm=[0, 1, 3, 2]))
        read = add("MatMul", add("Softmax", add("Add", scores, bias), axis=-1), value)
        shape = self.graph.constant([0, 0, self.config.num_heads * self.config.d_kv])
        return self.linear(add("Reshape", add("Transpose", read, perm=[0, 2, 1, 3]), shape), f"{name}.o.weight")

    def heads(self, values: str, name: str, parts: str) -> list[str]:
        """Returns queries, keys or values, each (batch, heads, length, size), by one product of matrices."""
        add, constant = self.graph.add, self.graph.constant
        weight = np.concatenate([self.array(f"{name}.{part}.weight") for part in parts])
        together = self.weights.linear(values, weight, f"{name}.{parts}.weight")
        shape = constant([0, 0, len(parts), self.config.num_heads, self.config.d_kv])
        by_part = add("Transpose", add("Reshape", together, shape), perm=[2, 0, 3, 1, 4])
        return [add("Gather", by_part, constant(i), axis=0) for i in range(len(parts))]

    def activation(self, values: str) -> str:
        name = self.config.dense_act_fn
        if name == "relu":
            return self.graph.add("Relu", values)
        if name in ("silu", "swish"):
            return self.graph.add("Mul", values, self.graph.add("Sigmoid", values))
        return self.graph.add("Gelu", values, approximate="tanh" if name in _GELU_TANH else "none")

    def feed_forward(self, values: str, layer: str) -> str:
        states = self.norm(values, f"{layer}.layer_norm.weight")
        dense = f"{layer}.DenseReluDense"
        if self.config.is_gated_act:
            gate = self.activation(self.linear(states, f"{dense}.wi_0.weight"))
            inner = self.graph.add("Mul", gate, self.linear(states, f"{dense}.wi_1.weight"))
        else:
            inner = self.activation(self.linear(states, f"{dense}.wi.weight"))
        return self.graph.add("Add", values, self.linear(inner, f"{dense}.wo.weight"))

    def encoder(self) -> str:
        add = self.graph.add
        states = self.weights.rows("input_ids", self.array("shared.weight"), "shared.weight")
        bias = ""
        for i in range(self.config.num_layers):
            layer = f"encoder.block.{i}.layer"
            if f"{layer}.0.SelfAttention.relative_attention_bias.weight" in self.tensors:
                bias = add("Add", self.encoder_bias(i), self.padding)
            normed = self.norm(states, f"{layer}.0.layer_norm.weight")
            states = add("Add", states, self.attention(normed, normed, bias, f"{layer}.0.SelfAttention"))
            states = self.feed_forward(states, f"{layer}.1")
        return self.norm(states, "encoder.final_layer_norm.weight")

    def encoder_bias(self, layer: int) -> str:
        """Returns the bias by distance, (1, heads, length, length)."""
        add, constant = self.graph.add, self.graph.constant
        farthest = int(self.config.relative_attention_max_distance)  # all that are farther share its bias
        encoder: Any = self.model.get_encoder()
        attention = encoder.block[layer].layer[0].SelfAttention
        with torch.no_grad():
            row = attention.compute_bias(2 * farthest + 1, 2 * farthest + 1)[0, :, farthest]  # (heads, distances)
        length = add("Squeeze", add("Shape", "input_ids", start=1, end=2))
        places = add("Range", constant(0), length, constant(1))
        distance = add("Sub", add("Unsqueeze", places, constant([0])), add("Unsqueeze", places, constant([1])))
        clipped = add("Clip", distance, constant(-farthest), constant(farthest))
        by_distance = constant(row.T.numpy(), f"encoder.bias_by_distance.{layer}")
        bias = add("Gather", by_distance, add("Add", clipped, constant(farthest)))
        return add("Unsqueeze", add("Transpose", bias, perm=[2, 0, 1]), constant([0]))

    def decoder(self, encoded: str) -> str:
        """Returns the states that the head reads at each node, (batch, nodes, hidden)."""
        add = self.graph.add
        nodes = self.graph.constant(self.tree.node_tokens.numpy()[None], "labels.node_tokens")
        states = self.weights.rows(nodes, self.array("shared.weight"), "shared.weight")  # (1, nodes, hidden)
        bias = ""
        for i in range(self.config.num_decoder_layers):
            layer = f"decoder.block.{i}.layer"
            if f"{layer}.0.SelfAttention.relative_attention_bias.weight" in self.tensors:
                bias = self.graph.constant(self.tree_bias(i), f"labels.bias_in_tree.{i}")
            normed = self.norm(states, f"{layer}.0.layer_norm.weight")
            states = add("Add", states, self.attention(normed, normed, bias, f"{layer}.0.SelfAttention"))
            normed = self.norm(states, f"{layer}.1.layer_norm.weight")
            states = add("Add", states, self.attention(normed, encoded, self.padding, f"{layer}.1.EncDecAttention"))
            states = self.feed_forward(states, f"{layer}.2")
        states = self.norm(states, "decoder.final_layer_norm.weight")
        if getattr(self.config, "scale_decoder_outputs", self.config.tie_word_embeddings):
            states = add("Mul", states, self.graph.constant(self.config.d_model**-0.5))
        return states

    def tree_bias(self, layer: int) -> NDArray[np.float32]:
        """Returns the bias by distance in the tree, (1, heads, nodes, nodes); a node sees its ancestors and itself."""
        decoder: Any = self.model.get_decoder()
        attention = decoder.block[layer].layer[0].SelfAttention
        with torch.no_grad():
            by_distance = attention.compute_bias(int(self.tree.depths.max()) + 1, 1)[0, :, :, 0].numpy()
        bias = np.full((1, len(by_distance), self.tree.nodes, self.tree.nodes), _HIDDEN)
        for node, path in enumerate(self.tree.paths.tolist()):
            ancestors = [ancestor for ancestor in path if ancestor >= 0]
            bias[0, :, node, ancestors] = by_distance[:, : len(ancestors)][:, ::-1].T
        return bias

    def outputs(self, states: str) -> tuple[str, str, str]:
        """Returns the log-probabilities of the labels, the best label and its energy."""
        add, constant, tree = self.graph.add, self.graph.constant, self.tree
        head = self.array("lm_head.weight")
        logits = add("MatMul", states, constant(head[tree.tokens.numpy()].T, "labels.head"))  # (batch, nodes, tokens)
        column = {token: i for i, token in enumerate(tree.tokens.tolist())}
        allowed = np.full((tree.nodes, len(column)), _HIDDEN)
        for node, tokens in enumerate(tree.following_tokens.tolist()):
            allowed[node, [column[token] for token in tokens if token >= 0]] = 0
        log_probs = add("LogSoftmax", add("Add", logits, constant(allowed, "labels.allowed")), axis=-1)
        on_path = (tree.label_nodes >= 0).numpy()
        nodes = tree.label_nodes.clamp(min=0).numpy()
        columns = np.vectorize(lambda token: column.get(token, 0))(tree.labels.numpy())
        flat = add("Reshape", log_probs, constant([0, -1]))
        of_tokens = add("Gather", flat, constant(nodes * len(column) + columns, "labels.edges"), axis=1)
        counted = add("Where", constant(on_path, "labels.on_path"), of_tokens, constant(0.0))
        totals = add("ReduceSum", counted, constant([-1]), keepdims=0)  # (batch, labels)
        highest = add("Sub", add("ReduceMax", totals, constant([-1])), constant(EQUAL))
        best = add("ArgMax", self.graph.cast(add("GreaterOrEqual", totals, highest), "INT64"), axis=-1, keepdims=0)
        return totals, best, self.energy(states, best, nodes, on_path)

    def energy(self, states: str, best: str, nodes: NDArray[np.int64], on_path: NDArray[np.bool_]) -> str:
        """Returns the energy of the best label, averaged over its tokens; the head's logits of its nodes alone."""
        add, constant = self.graph.add, self.graph.constant
        path = add("Unsqueeze", add("Gather", constant(nodes, "labels.nodes"), best), constant([-1]))
        of_path = add("GatherND", states, path, batch_dims=1)  # (batch, tokens, hidden)
        tied = self.config.tie_word_embeddings
        logits = self.linear(of_path, "shared.weight" if tied else "lm_head.weight")
        top = add("ReduceMax", logits, constant([-1]))
        sums = add("ReduceSum", add("Exp", add("Sub", logits, top)), constant([-1]))
        free = add("Squeeze", add("Add", add("Log", sums), top), constant([-1]))
        weights = (on_path / on_path.sum(-1, keepdims=True)).astype(np.float32)
        shares = add("Gather", constant(weights, "labels.shares"), best)
        return add("Neg", add("ReduceSum", add("Mul", free, shares), constant([-1]), keepdims=0))
