"""How an ONNX graph stores matrices: in float32, or in 8 bits."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from gold_lightning.exporting.graph_builder import MICROSOFT, GraphBuilder

__all__ = ["Float32", "Int8", "WeightFormat"]

Matrix = NDArray[np.float32]

_LARGEST = 64  # 2 x 255 x 64 is less than 2^15


class WeightFormat(ABC):
    """Adds products with matrices to a graph, and look-ups of their rows.

    Embeddings that are tied to the head are looked up and multiplied with. Such a matrix is stored once, row by row;
    onnxruntime transposes it when it loads the graph.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: GraphBuilder) -> None:
        self.graph = graph
        self.looked_up: set[str] = set()

    @abstractmethod
    def linear(self, values: str, weight: Matrix, name: str) -> str:
        """Adds ``values @ weight.T``.

        Args:
            values: (..., inputs) float32.
            weight: (outputs, inputs).
            name: Name of the weight.

        Returns:
            (..., outputs) float32.
        """

    @abstractmethod
    def rows(self, places: str, weight: Matrix, name: str) -> str:
        """Adds a look-up of rows.

        Args:
            places: (...,) int64.
            weight: (rows, size).
            name: Name of the weight.

        Returns:
            (..., size) float32.
        """


class Float32(WeightFormat):
    """Matrices as they are."""

    def linear(self, values: str, weight: Matrix, name: str) -> str:
        if name in self.looked_up:
            return self.graph.add("MatMul", values, self.graph.add("Transpose", name, perm=[1, 0]))
        return self.graph.add("MatMul", values, self.graph.constant(weight.T, name))

    def rows(self, places: str, weight: Matrix, name: str) -> str:
        if name not in self.looked_up:
            self.graph.constant(weight, name)
            self.looked_up.add(name)
        return self.graph.add("Gather", name, places)


class Int8(WeightFormat):
    """Matrices in 8 bits with a scale for each row; what they are multiplied with is quantised while the graph runs.

    Rows are those of ``weight``, so a token's embedding and an output of a layer have a scale of their own.
    """

    def linear(self, values: str, weight: Matrix, name: str) -> str:
        if name in self.looked_up:
            table = self.graph.add("Transpose", name, perm=[1, 0])
            scales = self.graph.add("Reshape", f"{name}.scales", self.graph.constant([-1]))
        else:
            rounded, scale = _quantised(weight)
            table = self.graph.constant(rounded.T, name)
            scales = self.graph.constant(scale[:, 0], f"{name}.scales")
        return self.graph.add("DynamicQuantizeMatMul", values, table, scales, domain=MICROSOFT)

    def rows(self, places: str, weight: Matrix, name: str) -> str:
        if name not in self.looked_up:
            rounded, scale = _quantised(weight)
            self.graph.constant(rounded, name)
            self.graph.constant(scale, f"{name}.scales")
            self.looked_up.add(name)
        rounded_rows = self.graph.cast(self.graph.add("Gather", name, places), "FLOAT")
        return self.graph.add("Mul", rounded_rows, self.graph.add("Gather", f"{name}.scales", places))


def _quantised(weight: Matrix) -> tuple[NDArray[np.int8], Matrix]:
    """Returns whole numbers from -64 to 64, and the scale of each row, (rows, 1).

    Processors without VNNI add two products of 8 bits, up to 255 x weight each, in 16 bits: beyond 64 the sum would
    overflow there, and the graph would give other answers than on the machine that wrote it.
    """
    scale = np.maximum(np.abs(weight).max(-1, keepdims=True), 1e-12) / _LARGEST
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)
