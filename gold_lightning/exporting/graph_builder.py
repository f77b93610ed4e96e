"""Builds ONNX graphs: a call adds a node or a constant and returns its name, by which later nodes refer to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MICROSOFT", "GraphBuilder"]

MICROSOFT = "com.microsoft"
"""Domain of the operators that onnxruntime adds to those of ONNX."""

_OPSET = 20  # the first with Gelu
_IR_VERSION = 9  # of that opset: older runtimes read it too
_SMALL = 8  # values of a constant that is stored once, however often it is used


class GraphBuilder:
    """Collects nodes and constants of an ONNX graph.

    Example:
        >>> graph = GraphBuilder()
        >>> total = graph.add("Add", "a", graph.constant(np.float32(2)))
        >>> model = graph.model({"a": ("FLOAT", ["batch"])}, {"total": (total, "FLOAT", ["batch"])})
        >>> [node.op_type for node in model.graph.node]
        ['Add', 'Identity']
    """

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._small: dict[tuple[Any, ...], str] = {}

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node.

        Args:
            operator: Type of the node.
            inputs: Names of its inputs; "" for one that is left out.
            domain: Domain of the operator.
            attributes: Attributes of the node.

        Returns:
            The name of its first output.
        """
        from onnx import helper

        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def cast(self, value: str, kind: str) -> str:
        """Adds a change of element type, such as ``FLOAT`` or ``INT64``."""
        from onnx import TensorProto

        return self.add("Cast", value, to=getattr(TensorProto, kind))

    def constant(self, value: ArrayLike, name: str = "") -> str:
        """Adds a constant and returns its name.

        Args:
            value: The value; Python's whole numbers become int64, its floats float32.
            name: A name that tells readers of the graph where the value comes from.
        """
        from onnx import numpy_helper

        array: NDArray[Any] = np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        shared = not name and array.size <= _SMALL
        key = (array.dtype.str, array.shape, array.tobytes()) if shared else ()
        if shared and key in self._small:
            return self._small[key]
        stored = name or f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(array).reshape(array.shape)  # the former makes a vector of a scalar
        self._constants.append(numpy_helper.from_array(array, stored))
        if shared:
            self._small[key] = stored
        return stored

    def model(
        self,
        inputs: dict[str, tuple[str, Sequence[str | int]]],
        outputs: dict[str, tuple[str, str, Sequence[str | int]]],
    ) -> Any:
        """Returns the ``onnx.ModelProto``.

        Args:
            inputs: Element type and shape of each input, by its name.
            outputs: The value, its element type and its shape, by the output's name.
        """
        from onnx import TensorProto, helper

        for name, (value, _, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name], name))

        def infos(values: dict[str, tuple[str, Sequence[str | int]]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, getattr(TensorProto, kind), list(shape))
                for name, (kind, shape) in values.items()
            ]

        typed = {name: (kind, shape) for name, (_, kind, shape) in outputs.items()}
        graph = helper.make_graph(self._nodes, "gold_lightning", infos(inputs), infos(typed), self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="gold_lightning")
