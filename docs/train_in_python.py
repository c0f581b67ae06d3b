"""Trains with the graphs written by `trainer graphs --out DIR`: python3 train_in_python.py DIR [STEPS]

Needs onnxruntime, numpy and safetensors. Overfits a single batch of noise; replace it with your images.
"""

import json
import sys
from pathlib import Path

import numpy
import onnxruntime
from safetensors.numpy import load_file


def scalar(value):
    return numpy.array(value, numpy.float32)


def main(directory, steps):
    sessions = {
        name: onnxruntime.InferenceSession(directory / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("train", "update", "evaluate")
    }
    about = json.loads((directory / "graphs.json").read_text())
    state = load_file(directory / "state.safetensors")
    random = numpy.random.default_rng(0)
    rows = about["batch_size"]
    shape = {port.name: port.shape for port in sessions["train"].get_inputs()}
    batch = {
        "images": random.integers(0, 256, shape["images"], numpy.uint8),
        "labels": numpy.arange(rows) % about["classes"],
        "valid": numpy.ones(rows, bool),
    }
    outputs = [port.name for port in sessions["train"].get_outputs()]

    def weights():
        return {name: state[name] for name in ["mean", *(t["name"] for t in about["parameters"] + about["buffers"])]}

    def evaluate():
        loss, probabilities = sessions["evaluate"].run(["loss", "probabilities"], weights() | batch)
        assert numpy.allclose(probabilities.sum(1), 1, atol=1e-3)
        return loss / rows

    print(f"before: loss {evaluate():.4f}")
    for _ in range(steps):
        feed = weights() | batch
        feed["offsets"] = numpy.zeros((rows, 3), numpy.float32)
        feed["gradient_scale"] = scalar(1 / rows)
        if about["precision"] == "f16":
            feed["loss_scale"] = scalar(65536)
        for mask in about["masks"]:
            feed[mask["name"]] = random.random(mask["shape"]) < mask["keep"]
        for noise in about["noises"]:
            draw = random.standard_normal if noise["distribution"] == "normal" else random.random
            feed[noise["name"]] = draw(noise["shape"], dtype=numpy.float32)
        given = dict(zip(outputs, sessions["train"].run(outputs, feed)))
        if not numpy.isfinite(given.get("gradient_sum", 0)):
            continue  # overflow: skip the update; a smaller loss scale avoids it
        for parameter in about["parameters"]:
            name = parameter["name"]
            if parameter["hyperparameters"] is None:
                continue  # it keeps its values
            pieces = {"weights": state[name].ravel(), "gradients": given[f"{name}.gradient"].ravel()}
            pieces |= {name: scalar(value) for name, value in parameter["hyperparameters"].items()}
            pieces |= {f"{slot}_buffer": state[f"{name}.{slot}"].ravel() for slot in about["slots"]}
            names = ["new_weights", *(f"new_{slot}_buffer" for slot in about["slots"])]
            new = [piece.reshape(parameter["shape"]) for piece in sessions["update"].run(names, pieces)]
            state[name], *slots = new
            state |= {f"{name}.{slot}": values for slot, values in zip(about["slots"], slots)}
        for buffer in about["buffers"]:
            state[buffer["name"]] += given[f"{buffer['name']}.change"]
    print(f"after {steps} steps: loss {evaluate():.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
