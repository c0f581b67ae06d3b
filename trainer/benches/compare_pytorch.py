"""Compares training steps of AlexNet in Fovea and PyTorch: same weights, same batch, same number of threads.

    cargo build --release --bin trainer
    python compare_pytorch.py [--batch 128] [--steps 5] [--threads 2] [--check] [--device cpu|cuda] [--precision f16] …

The two alternate, each in its own process: they share no memory or threads and see the same load from other processes.
On a busy machine wall times say little; compare the CPU seconds. PyTorch is measured as installed (on a GPU cuDNN
searches for the fastest algorithms, as for Fovea), with `--tuned` also with glibc configured to keep large blocks, which
avoids page faults, and with `--compile` also through `torch.compile`. PyTorch's half precision is autocast with a
gradient scaler. Both copy the batch to a GPU at the start of every step, from page-locked memory. Weights and batch come
from `trainer bench --state`. `--check` disables dropout and compares the losses of each step. `--json` prints one JSON
object. The variable TRAINER names another binary than that in target/release.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path(__file__).parents[2] / "target"))
TRAINER = os.environ.get("TRAINER", str(TARGET / "release" / "trainer"))
TUNED = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}


def take_steps(options, images, labels, parameters, loss_of, **sgd):
    """Takes steps on one batch and prints the measurements as JSON; `loss_of` takes images and labels on the device."""
    import torch

    half, device = options.precision == "f16", torch.device(options.device)
    if device.type == "cuda":
        images = images.pin_memory()
    labels = labels.to(device)
    optimizer = torch.optim.SGD(parameters, **sgd)
    scaler = torch.amp.GradScaler(device.type, enabled=half)

    def forward(x):
        with torch.autocast(device.type, torch.float16, enabled=half):
            return loss_of(x, labels)

    if options.compiled:
        forward = torch.compile(forward)
    seconds, cpu_seconds, losses = [], [], []
    for _ in range(options.steps):
        started, cpu = time.perf_counter(), time.process_time()
        loss = forward(images.to(device, non_blocking=True))
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"library": f"PyTorch {torch.__version__}", "step_s": seconds, "step_cpu_s": cpu_seconds,
                      "losses": losses, "peak_bytes": peak}))


def set_up(options):
    """PyTorch's settings for these options."""
    import torch

    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.precision != "f32"
    torch.backends.cudnn.benchmark = True


def pytorch(options):
    """Takes the steps of AlexNet; runs in its own process."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    set_up(options)
    folder = pathlib.Path(options.state)
    raw = (folder / "state.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    weights = {}
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__" and not name.endswith(".momentum"):
            start, end = entry["data_offsets"]
            values = np.frombuffer(raw, np.float32, (end - start) // 4, 8 + length + start).reshape(entry["shape"])
            weights[name] = torch.tensor(values, device=options.device, requires_grad=True)
    images = torch.from_numpy(np.fromfile(folder / "images.u8", np.uint8).reshape(options.batch, 3, 224, 224))

    def layer(x, name, **geometry):
        return F.relu(F.conv2d(x, weights[name + ".weight"], weights[name + ".bias"], **geometry))

    def norm(x):
        return F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)

    def drop(x):
        # Without rescaling, as in the paper.
        return x if options.check else x * (torch.rand_like(x) < 0.5)

    def forward(x):
        x = F.max_pool2d(norm(layer(x, "conv1", stride=4, padding=2)), 3, 2)
        x = F.max_pool2d(norm(layer(x, "conv2", padding=2, groups=2)), 3, 2)
        x = layer(layer(x, "conv3", padding=1), "conv4", padding=1, groups=2)
        x = F.max_pool2d(layer(x, "conv5", padding=1, groups=2), 3, 2).flatten(1)
        for name in ("fc6", "fc7"):
            x = drop(F.relu(F.linear(x, weights[name + ".weight"], weights[name + ".bias"])))
        return F.linear(x, weights["fc8.weight"], weights["fc8.bias"])

    def loss_of(x, labels):
        return F.cross_entropy(forward(x.float() - 127.5), labels)

    labels = torch.arange(options.batch) % 1000
    take_steps(options, images, labels, weights.values(), loss_of, lr=0.01, momentum=0.9, weight_decay=0.0005)


def run(command, **environment):
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout) if done.stdout else None


def in_turns(runners, rounds):
    """Measurements of each runner; one that fails has said why, and is left out."""
    found = {name: [] for name in runners}
    for _ in range(rounds):
        for name in list(found):
            try:
                found[name].append(runners[name]())
            except subprocess.CalledProcessError as error:
                print(f"{name}: exit code {error.returncode}", file=sys.stderr)
                del found[name]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=1, help="turns that each one gets")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["f32", "tf32", "f16"], default="f32")
    parser.add_argument("--compile", action="store_true", help="PyTorch with torch.compile as well")
    parser.add_argument("--tuned", action="store_true", help="PyTorch with a tuned allocator as well")
    parser.add_argument("--check", action="store_true", help="no dropout; compare the losses")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--warm-up", action="store_true", help="only fill the cache of torch.compile")
    parser.add_argument("--state", help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.state:
        return pytorch(options)

    bench = [TRAINER, "bench", "--batch-size", str(options.batch), "--threads", str(options.threads), "--device", options.device]
    bench += ["--no-copy-ahead", "--precision", options.precision] + ["--set", "network.layer.dropout.p=0"] * options.check
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(bench + ["--state", folder], check=True, stdout=subprocess.DEVNULL)
        other = [sys.executable, __file__, *sys.argv[1:], "--state", folder]
        steps = ["--steps", str(options.steps), "--json"]
        runners = {"fovea": lambda: run(bench + steps), "pytorch": lambda: run(other)}
        if options.tuned:
            runners["pytorch, tuned"] = lambda: run(other, **TUNED)
        if options.compile or options.warm_up:
            runners["pytorch, compiled"] = lambda: run(other + ["--compiled"])
        if options.warm_up:
            runners["pytorch, compiled"]()
            return 0
        found = in_turns(runners, options.rounds)

    best, lines = {}, []
    for name, runs in found.items():
        # Without the first step of each process, which allocates memory.
        steps = [s for one in runs for s in one["step_s"][1:]]
        cpu = [s for one in runs for s in one["step_cpu_s"][1:]]
        best[name] = (min(steps), statistics.median(steps), statistics.median(cpu))
        peak = max(one["peak_bytes"] for one in runs) / 1e9
        start = f", start {max(one['startup_s'] for one in runs):.2f} s" if "startup_s" in runs[0] else ""
        lines.append(f"{name:18} {runs[0]['library']}: step {best[name][0]:.4f} s least, {best[name][1]:.4f} s median, "
                     f"{best[name][2]:.2f} processor seconds; peak {peak:.2f} GB{start}")
    ratios = {name: [ours / theirs for ours, theirs in zip(best["fovea"], best[name])]
              for name in best if name != "fovea" and "fovea" in best}
    for name, (least, median, cpu) in ratios.items():
        lines.append(f"fovea / {name}: {least:.2f} least, {median:.2f} median, {cpu:.2f} processor seconds")
    apart = []
    if options.check and {"fovea", "pytorch"} <= set(found):
        for step, (ours, theirs) in enumerate(zip(found["fovea"][0]["losses"], found["pytorch"][0]["losses"])):
            apart.append(abs(ours / theirs - 1))
            lines.append(f"loss of step {step}: {ours:.6f} against {theirs:.6f}, {apart[-1]:.1e} apart")
    if options.json:
        result = {"batch": options.batch, "precision": options.precision, "device": options.device}
        result |= {"median_s": {name: times[1] for name, times in best.items()}}
        result |= {"ratio": {name: times[1] for name, times in ratios.items()}}
        result |= {"losses_apart": max(apart)} if apart else {}
        lines = [json.dumps(result)]
    print("\n".join(lines))
    return int(set(found) != set(runners))


if __name__ == "__main__":
    sys.exit(main())
