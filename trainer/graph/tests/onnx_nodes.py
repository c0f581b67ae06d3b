"""Writes the node tests of the onnx package into a folder: NAME/model.onnx, NAME/input_I.pb, NAME/output_I.pb."""

import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def proto(value):
    return value if isinstance(value, TensorProto) else numpy_helper.from_array(value)


root, operators = Path(sys.argv[1]), set(sys.argv[2].split(","))
for case in collect_testcases(None):
    if not {node.op_type for node in case.model.graph.node} <= operators:
        continue
    inputs, outputs = case.data_sets[0]
    try:
        tensors = {f"input_{i}.pb": proto(value) for i, value in enumerate(inputs)}
        tensors |= {f"output_{i}.pb": proto(value) for i, value in enumerate(outputs)}
    except Exception:  # sequences and optional values
        continue
    folder = root / case.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for name, tensor in tensors.items():
        (folder / name).write_bytes(tensor.SerializeToString())
