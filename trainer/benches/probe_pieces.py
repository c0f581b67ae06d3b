"""The time of the pieces of AlexNet's step by kernels that a custom operator could call, to say what it would gain.

    python probe_pieces.py [--device cuda] [--batch 128] [--quick] > pieces.jsonl

Needs PyTorch, which calls cuDNN's own forward and backward functions for convolutions. Those of probe_kernels.cu are
compiled by NVRTC, and compared with PyTorch first. A line of JSON for each: piece, form, precision, and the median in
milliseconds, or the error. On a GPU runs are recorded as a CUDA graph, as in training. Two minutes on an H100.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F

LAYERS = {  # inputs, outputs, kernel, stride, padding, groups, side of the input
    "conv1": (3, 96, 11, 4, 2, 1, 224),
    "conv2": (96, 256, 5, 1, 2, 2, 27),
    "conv3": (256, 384, 3, 1, 1, 1, 13),
    "conv4": (384, 384, 3, 1, 1, 2, 13),
    "conv5": (384, 256, 3, 1, 1, 2, 13),
}
LINEAR = {"fc6": (9216, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000)}
POOLS = {"pool1": (96, 55), "pool2": (256, 27), "pool5": (256, 13)}
NORMS = {"lrn1": (96, 55), "lrn2": (256, 27)}
PARAMETERS = 60_965_224
SOURCE = pathlib.Path(__file__).with_name("probe_kernels.cu")
# Runs of a recorded graph.
RUNS = 5


class Probe:
    def __init__(self, options):
        self.device, self.repetitions = torch.device(options.device), 1 if options.quick else 20
        self.failed = False

    def median_ms(self, run):
        for _ in range(min(self.repetitions, 3)):
            run()
        if self.device.type != "cuda":
            times = []
            for _ in range(self.repetitions):
                started = time.perf_counter()
                run()
                times.append(1000 * (time.perf_counter() - started))
            return statistics.median(times)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(RUNS):
                run()
        times = []
        for _ in range(self.repetitions):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / RUNS)
        return statistics.median(times)

    def time(self, piece, form, precision, run):
        line = {"piece": piece, "form": form, "precision": precision}
        try:
            line["ms"] = round(self.median_ms(run), 4)
        except Exception as error:
            # One failure must not cost the others.
            line["error"] = f"{type(error).__name__}: {error}"[:200]
            self.failed = True
        print(json.dumps(line), flush=True)


def convolutions(probe, batch, precision, dtype):
    backward = torch.ops.aten.convolution_backward
    for layout, tag in ((torch.contiguous_format, "NCHW"), (torch.channels_last, "NHWC")):
        for deterministic in (False, True):
            torch.backends.cudnn.deterministic = deterministic
            form = f"cuDNN, {tag}" + ", deterministic" * deterministic
            for name, (inputs, outputs, kernel, stride, padding, groups, side) in LAYERS.items():
                x = torch.randn(batch, inputs, side, side, device=probe.device, dtype=dtype).to(memory_format=layout)
                w = torch.randn(outputs, inputs // groups, kernel, kernel, device=probe.device, dtype=dtype) * 0.01
                w = w.to(memory_format=layout)
                forward = lambda: F.conv2d(x, w, None, stride, padding, 1, groups)
                dy = torch.randn_like(forward())
                rest = (None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)
                if not deterministic:
                    probe.time(f"{name} forward", form, precision, forward)
                weight = lambda: backward(dy, x, w, *rest, [False, True, False])
                probe.time(f"{name} weight gradient", form, precision, weight)
                if name != "conv1":
                    data = lambda: backward(dy, x, w, *rest, [True, False, False])
                    probe.time(f"{name} data gradient", form, precision, data)
    torch.backends.cudnn.deterministic = False


def products(probe, batch, precision, dtype):
    for name, (inputs, outputs) in LINEAR.items():
        shapes = ((batch, inputs), (outputs, inputs), (batch, outputs))
        x, w, dy = (torch.randn(shape, device=probe.device, dtype=dtype) for shape in shapes)
        probe.time(f"{name} forward", "cuBLAS", precision, lambda: x @ w.t())
        probe.time(f"{name} weight gradient", "cuBLAS", precision, lambda: dy.t() @ x)
        probe.time(f"{name} data gradient", "cuBLAS", precision, lambda: dy @ w)


def pools(probe, batch, precision, dtype):
    backward = torch.ops.aten.max_pool2d_with_indices_backward
    for name, (channels, side) in POOLS.items():
        for layout, tag in ((torch.contiguous_format, "NCHW"), (torch.channels_last, "NHWC")):
            x = torch.randn(batch, channels, side, side, device=probe.device, dtype=dtype).to(memory_format=layout)
            forward = lambda: F.max_pool2d(x, 3, 2, return_indices=True)
            y, places = forward()
            dy = torch.randn_like(y)
            gradient = lambda: backward(dy, x, [3, 3], [2, 2], [0, 0], [1, 1], False, places)
            probe.time(f"{name} forward", f"PyTorch, {tag}", precision, forward)
            probe.time(f"{name} gradient", f"PyTorch, {tag}", precision, gradient)
        flat, values = places.flatten(), dy.float().flatten()
        zeros = lambda: torch.zeros(x.numel(), device=probe.device)
        scattered = lambda: zeros().scatter_add_(0, flat, values)
        probe.time(f"{name} gradient", "zeros and atomic additions", precision, scattered)


def fused(probe, batch):
    """The kernels of probe_kernels.cu."""
    source = SOURCE.read_text()
    threads = 128

    def kernel(name):
        compiled = torch.cuda._compile_kernel(source, name)
        return lambda total, *arguments: compiled(((total + threads - 1) // threads, 1, 1), (threads, 1, 1), arguments)

    def check(name, ours, theirs):
        apart = {part: float((a - b).abs().max()) for part, a, b in zip(("forward", "gradient"), ours, theirs)}
        probe.failed |= max(apart.values()) > 1e-4
        print(json.dumps({"piece": name, "form": "NVRTC", "precision": "f32", "largest_error": apart}), flush=True)

    forward, gradient, k, alpha, beta = kernel("relu_lrn"), kernel("relu_lrn_gradient"), 2.0, 1e-4, 0.75
    for name, (channels, side) in NORMS.items():
        shape = (batch, channels, side, side)
        x, dy = (torch.randn(shape, device=probe.device) for _ in range(2))
        y, dx = (torch.full_like(x, torch.nan) for _ in range(2))
        sizes = (channels, side * side, batch * side * side)
        run = lambda: forward(sizes[2], x, y, *sizes, k, alpha, beta)
        run_gradient = lambda: gradient(sizes[2], x, dy, dx, *sizes, k, alpha, beta)
        run()
        run_gradient()
        leaf = x.clone().requires_grad_()
        expected = F.local_response_norm(F.relu(leaf), 5, alpha * 5, beta, k)
        expected.backward(dy)
        check(f"{name} with ReLU", (y, dx), (expected, leaf.grad))
        probe.time(f"{name} with ReLU forward", "NVRTC", "f32", run)
        probe.time(f"{name} with ReLU gradient", "NVRTC", "f32", run_gradient)
    forward, gradient = kernel("pool"), kernel("pool_gradient")
    for name, (channels, side) in POOLS.items():
        x = torch.randn(batch, channels, side, side, device=probe.device, requires_grad=True)
        expected = F.max_pool2d(x, 3, 2)
        dy = torch.randn_like(expected)
        expected.backward(dy)
        y, dx = torch.full_like(expected, torch.nan), torch.full_like(x, torch.nan)
        places = torch.empty(y.shape, dtype=torch.uint8, device=probe.device)
        sizes = (side, side, *y.shape[2:])
        values = x.detach()
        run = lambda: forward(y.numel(), values, y, places, *sizes, y.numel())
        run_gradient = lambda: gradient(dx.numel(), dy, places, dx, *sizes, dx.numel())
        run()
        run_gradient()
        check(name, (y, dx), (expected, x.grad))
        probe.time(f"{name} forward", "NVRTC", "f32", run)
        probe.time(f"{name} gradient", "NVRTC, gathered", "f32", run_gradient)
    w, v, g = (torch.randn(PARAMETERS, device=probe.device) for _ in range(3))
    half = torch.empty(PARAMETERS, device=probe.device, dtype=torch.float16)
    update = kernel("sgd")
    run = lambda: update(PARAMETERS // 4, w, v, g, half, PARAMETERS, 0.01, 0.9, 0.0005)
    probe.time("update", "NVRTC, with a copy in f16", "f32", run)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--batch", type=int, default=128, help="default: 128")
    parser.add_argument("--quick", action="store_true", help="a batch of 1, few runs: to try the probe itself")
    options = parser.parse_args()
    probe, batch = Probe(options), 1 if options.quick else options.batch
    torch.backends.cudnn.benchmark = True
    with torch.no_grad():
        # A processor has no TF32, and emulates f16.
        for precision in ("tf32", "f16", "f32") if probe.device.type == "cuda" else ("f32",):
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "f32"
            dtype = torch.float16 if precision == "f16" else torch.float32
            for pieces in (convolutions, products, pools):
                pieces(probe, batch, precision, dtype)
    if probe.device.type == "cuda":
        fused(probe, batch)
    return int(probe.failed)


if __name__ == "__main__":
    sys.exit(main())
