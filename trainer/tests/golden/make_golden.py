"""Writes the golden values of `tests/golden.rs` with PyTorch in double precision on the CPU.

    pip install torch numpy
    python make_golden.py [NAME...]

Inputs are not stored: both sides draw them from the same hash of (stream, index). Images are noise: on blocky
pictures two maxima of a pooling window may be nearly tied, and then rounding decides which one gets the gradient.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

STEPS = 20
# Updates after which weights and momentum buffers are noted besides those of the end: few enough that rounding hardly matters.
EARLY = 4
SAMPLES = 12
np.seterr(over="ignore")


def uniform(stream, count):
    """Uniform values in [0, 1) of 24 bits: SplitMix64's output function of stream · 2⁴⁰ + index."""
    z = (np.arange(count, dtype=np.uint64) + np.uint64(stream << 40)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24


def lrn(x, size, alpha, beta, k):
    return F.local_response_norm(x, size, alpha=alpha * size, beta=beta, k=k)


def alexnet(x, p, masks, groups, first):
    x = F.relu(F.conv2d(x, p["conv1.weight"], p["conv1.bias"], **first))
    x = F.max_pool2d(lrn(x, 5, 1e-4, 0.75, 2.0), 3, 2)
    x = F.relu(F.conv2d(x, p["conv2.weight"], p["conv2.bias"], padding=2, groups=groups))
    x = F.max_pool2d(lrn(x, 5, 1e-4, 0.75, 2.0), 3, 2)
    x = F.relu(F.conv2d(x, p["conv3.weight"], p["conv3.bias"], padding=1))
    x = F.relu(F.conv2d(x, p["conv4.weight"], p["conv4.bias"], padding=1, groups=groups))
    x = F.relu(F.conv2d(x, p["conv5.weight"], p["conv5.bias"], padding=1, groups=groups))
    x = F.max_pool2d(x, 3, 2).flatten(1)
    for i, fc in enumerate(["fc6", "fc7"]):
        x = F.relu(F.linear(x, p[fc + ".weight"], p[fc + ".bias"])) * masks[i]
    return F.linear(x, p["fc8.weight"], p["fc8.bias"])


def lrn_of_pixels(x, size, alpha, beta, k):
    mean = F.avg_pool2d(x * x, size, stride=1, padding=size // 2, count_include_pad=True)
    return x / (k + alpha * size * size * mean) ** beta


def cifar_quick(x, p, masks):
    x = F.conv2d(x, p["conv1.weight"], p["conv1.bias"], padding=2)
    x = F.relu(F.max_pool2d(x, 3, 2, ceil_mode=True))
    x = lrn_of_pixels(x, 3, 5e-5, 0.75, 1.0)
    x = F.relu(F.conv2d(x, p["conv2.weight"], p["conv2.bias"], padding=2))
    x = lrn_of_pixels(F.avg_pool2d(x, 3, 2, ceil_mode=True), 3, 5e-5, 0.75, 1.0)
    x = F.relu(F.conv2d(x, p["conv3.weight"], p["conv3.bias"], padding=2))
    x = F.avg_pool2d(x, 3, 2, ceil_mode=True)
    return F.linear(x.flatten(1), p["fc10.weight"], p["fc10.bias"])


def local(x, w, b):
    """A 3×3 window times a matrix of its own at every place; w [P,Q,3·3·C,O] with the channels innermost, b [O,P,Q]."""
    (n, c, *_), (rows, columns, _, out) = x.shape, w.shape
    windows = F.unfold(x, 3, padding=1).reshape(n, c, 3, 3, rows, columns)
    kernels = w.reshape(rows, columns, 3, 3, c, out)
    return torch.einsum("ncijpq,pqijco->nopq", windows, kernels) + b


def cifar_11pct(x, p, masks):
    x = F.relu(F.conv2d(x, p["conv1.weight"], p["conv1.bias"], padding=2))
    x = lrn(F.max_pool2d(x, 3, 2, ceil_mode=True), 9, 0.001 / 9, 0.75, 1.0)
    x = F.relu(F.conv2d(x, p["conv2.weight"], p["conv2.bias"], padding=2))
    x = F.max_pool2d(lrn(x, 9, 0.001 / 9, 0.75, 1.0), 3, 2, ceil_mode=True)
    x = F.relu(local(x, p["local3.weight"], p["local3.bias"]))
    x = F.relu(local(x, p["local4.weight"], p["local4.bias"]))
    return F.linear(x.flatten(1), p["fc10.weight"], p["fc10.bias"])


def alexnet_shapes(filters, units, first_kernel, groups, side, classes):
    channels, kernels, split = [3] + filters[:-1], [first_kernel, 5, 3, 3, 3], [1, groups, 1, groups, groups]
    shapes = {}
    for i, out in enumerate(filters):
        shapes[f"conv{i + 1}"] = (out, channels[i] // split[i], kernels[i], kernels[i])
    shapes["fc6"] = (units[0], filters[-1] * side * side)
    shapes["fc7"] = (units[1], units[0])
    shapes["fc8"] = (classes, units[1])
    return shapes


NETS = {
    # name: forward, shapes, mask widths, image side, classes, batch, valid rows, learning rate
    "alexnet": dict(
        forward=lambda x, p, m: alexnet(x, p, m, 2, dict(stride=4, padding=2)),
        shapes=alexnet_shapes([96, 256, 384, 384, 256], [4096, 4096], 11, 2, 6, 1000),
        masks=[4096, 4096], px=224, classes=1000, batch=4, valid=4, rate=0.0001,
    ),
    "demo": dict(
        forward=lambda x, p, m: alexnet(x, p, m, 2, dict(stride=1, padding=2)),
        shapes=alexnet_shapes([32, 64, 96, 96, 64], [256, 256], 5, 2, 3, 10),
        masks=[256, 256], px=32, classes=10, batch=8, valid=6, rate=0.003,
    ),
    "cifar_quick": dict(
        forward=cifar_quick,
        shapes={"conv1": (32, 3, 5, 5), "conv2": (32, 32, 5, 5), "conv3": (64, 32, 5, 5), "fc10": (10, 1024)},
        masks=[], px=32, classes=10, batch=8, valid=8, rate=0.001,
    ),
    "cifar_11pct": dict(
        forward=cifar_11pct,
        shapes={
            "conv1": (64, 3, 5, 5), "conv2": (64, 64, 5, 5),
            "local3": (6, 6, 576, 64), "local4": (6, 6, 576, 32), "fc10": (10, 1152),
        },
        masks=[], px=24, classes=10, batch=8, valid=8, rate=0.001,
    ),
}


def summary(tensor):
    flat = tensor.detach().numpy().reshape(-1)
    places = np.arange(SAMPLES) * (flat.size - 1) // (SAMPLES - 1)
    return {"norm": float(np.sqrt((flat**2).sum())), "sum": float(flat.sum()), "samples": flat[places].tolist()}


def train(net):
    batch, valid, px, classes = net["batch"], net["valid"], net["px"], net["classes"]
    parameters, momentum_buffers = {}, {}
    for layer, shape in net["shapes"].items():
        of_place = layer.startswith("local")
        bias, inputs = ((shape[3], *shape[:2]), shape[2]) if of_place else (shape[:1], np.prod(shape[1:]))
        for name, dims in ((layer + ".weight", shape), (layer + ".bias", bias)):
            u = uniform(1 + len(parameters), int(np.prod(dims)))
            spread = np.sqrt(6.0 / inputs) if name.endswith("weight") else 0.1
            values = ((2.0 * u - 1.0) * spread).astype(np.float32).astype(np.float64)
            parameters[name] = torch.tensor(values.reshape(dims), requires_grad=True)
            momentum_buffers[name] = torch.zeros(dims, dtype=torch.float64)
    images = np.floor(256.0 * uniform(100, batch * 3 * px * px)).reshape(batch, 3, px, px)
    labels = np.floor(classes * uniform(101, batch)).astype(np.int64)
    offsets = ((uniform(102, batch * 3) - 0.5) * 20.0).astype(np.float32).astype(np.float64).reshape(batch, 3, 1, 1)
    mean = np.array([127.25, 119.75, 105.0]).reshape(1, 3, 1, 1)
    x = torch.tensor((images - mean + offsets) / 128.0)
    y = torch.tensor(labels)
    result = {"losses": [], "top1": [], "gradients": {}}
    for step in range(STEPS):
        masks = [
            torch.tensor((uniform(1000 + 10 * step + i, batch * width) < 0.5).astype(np.float64)).reshape(batch, width)
            for i, width in enumerate(net["masks"])
        ]
        logits = net["forward"](x, parameters, masks)[:valid]
        loss = F.cross_entropy(logits, y[:valid], reduction="sum")
        gradients = torch.autograd.grad(loss / valid, list(parameters.values()))
        result["losses"].append(loss.item())
        result["top1"].append(int((logits.argmax(1) == y[:valid]).sum()))
        for (name, w), g in zip(parameters.items(), gradients):
            if step == 0:
                result["gradients"][name] = summary(g)
            with torch.no_grad():
                momentum_buffers[name] = 0.9 * momentum_buffers[name] - 0.0005 * net["rate"] * w - net["rate"] * g
                w += momentum_buffers[name]
        print(step, loss.item(), flush=True)
        if step + 1 == EARLY:
            result["early"] = {"updates": EARLY} | state(parameters, momentum_buffers)
    result["end"] = {"updates": STEPS} | state(parameters, momentum_buffers)
    return result


def state(parameters, momentum_buffers):
    return {"weights": {n: summary(w) for n, w in parameters.items()}, "momentum_buffers": {n: summary(v) for n, v in momentum_buffers.items()}}


if __name__ == "__main__":
    for name, net in NETS.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        print(name)
        values = {k: net[k] for k in ("batch", "valid", "rate")} | train(net)
        path = pathlib.Path(__file__).with_name(name + ".json")
        path.write_text(json.dumps(values, indent=1) + "\n")
