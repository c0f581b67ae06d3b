"""Training steps of networks from files, in Fovea and in PyTorch: time, memory, start-up, and the size of the graph.

    cargo build --release --bin trainer
    python compare_networks.py --folder nets [--px 112] [--batch 32] [--steps 5] [--rounds 3] [NETWORK …]

Needs torch, torchvision, onnx, and timm for its networks. A network is one of zoo.py or of torchvision: exported in
training mode, with 10 classes, without dropout and stochastic depth. Both train it by SGD with momentum on a batch of
noise, u8, normalised in the step. The two alternate, each in its own process, as in compare_pytorch.py. PyTorch runs with
glibc's allocator tuned to keep large blocks, which avoids page faults, and with `--installed` without as well: ratios are
to the former. A line is a row of the table in docs/BENCHMARKS.md; `nodes` are those of the training graph and of the file.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import onnx
import torch

import zoo
from compare_pytorch import TUNED, run


def network(name, px):
    """The list of zoo.py, at other image sizes, and everything else in torchvision."""
    sized = {"vit_b_16": zoo.torchvision_network("vit_b_16", image_size=px)}
    sized["vit_small"] = zoo.timm_network("vit_small_patch16_224", img_size=px)
    build = sized.get(name) or zoo.NETWORKS.get(name, (None, zoo.torchvision_network(name)))[1]
    zoo.NETWORKS[name] = (px, build)


def pytorch(options):
    """Takes the steps and prints the measurements as JSON; runs in its own process."""
    torch.set_num_threads(options.threads)
    (name,) = options.networks
    network(name, options.px)
    module = zoo.module_of(name).train()
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (options.batch, 3, options.px, options.px), dtype=torch.uint8, generator=random)
    labels = torch.arange(options.batch) % zoo.CLASSES
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (zoo.MEAN, zoo.STD))
    optimizer = torch.optim.SGD(module.parameters(), lr=zoo.LEARNING_RATE, momentum=zoo.MOMENTUM)
    seconds, cpu_seconds = [], []
    for _ in range(options.steps):
        started, cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(module((images.float() - mean) / std), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"step_s": seconds, "step_cpu_s": cpu_seconds, "peak_bytes": peak}))


def nodes_of(path):
    return len(onnx.load(path, load_external_data=False).graph.node)


def compare(name, options):
    network(name, options.px)
    file = (options.folder / f"{name}.{options.px}.onnx").absolute()
    recipe = file.with_suffix(".toml")
    if not file.exists():
        zoo.export(name, "script/train", file, fixed=False)
    values = {"px": options.px, "mean": zoo.MEAN, "std": zoo.STD}
    values |= {"rate": zoo.LEARNING_RATE, "momentum": zoo.MOMENTUM, "rows": options.batch, "file": json.dumps(str(file))}
    recipe.write_text(zoo.RECIPE.format(**values))
    common = ["--recipe", recipe, "--classes", str(zoo.CLASSES)]
    graphs = file.with_suffix(".graphs")
    subprocess.run([zoo.TRAINER, "graphs", *common, "--out", graphs], check=True, stdout=subprocess.DEVNULL)
    bench = [zoo.TRAINER, "bench", *common, "--threads", str(options.threads), "--steps", str(options.steps), "--json"]
    other = [sys.executable, __file__, name, "--folder", str(options.folder), "--pytorch"]
    for key in ("px", "batch", "steps", "threads"):
        other += [f"--{key}", str(getattr(options, key))]
    found = {"fovea": [], "pytorch": [], "tuned": []}
    for _ in range(options.rounds):
        found["fovea"].append(run(bench))
        found["tuned"].append(run(other, **TUNED))
        if options.installed:
            found["pytorch"].append(run(other))
    nodes = (nodes_of(file), nodes_of(graphs / "train.onnx"))
    median, cpu, peak = {}, {}, {}
    for runner, runs in found.items():
        if not runs:
            continue
        # Without the first step of each process, which allocates memory.
        median[runner] = statistics.median(s for one in runs for s in one["step_s"][1:])
        cpu[runner] = statistics.median(s for one in runs for s in one["step_cpu_s"][1:])
        peak[runner] = max(one["peak_bytes"] for one in runs) / 1e9
    result = {"network": name, "px": options.px, "batch": options.batch, "step_s": median, "step_cpu_s": cpu, "peak_gb": peak}
    result |= {"start_s": min(one["startup_s"] for one in found["fovea"]), "nodes": nodes}
    with (options.folder / "speed.jsonl").open("a") as out:
        print(json.dumps(result), file=out)
    installed = f" | {median['pytorch']:.3f} s" if options.installed else ""
    print(
        f"| {name} | {median['fovea']:.3f} s | {median['tuned']:.3f} s{installed} | {median['fovea'] / median['tuned']:.2f} | "
        f"{cpu['fovea'] / cpu['tuned']:.2f} | {peak['fovea']:.2f} / {peak['tuned']:.2f} GB | {result['start_s']:.1f} s | "
        f"{nodes[1]} / {nodes[0]} = {nodes[1] / nodes[0]:.1f} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ["resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_b_16"]
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=default, help=f"default: {', '.join(default)}")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="exports, graphs and results")
    parser.add_argument("--px", type=int, default=112, help="side of the images; default: 112")
    parser.add_argument("--batch", type=int, default=32, help="default: 32")
    parser.add_argument("--steps", type=int, default=5, help="of a round, of which the first is not counted; default: 5")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--installed", action="store_true", help="PyTorch with the allocator as installed as well")
    parser.add_argument("--pytorch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pytorch:
        return pytorch(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    installed = " | PyTorch as installed" if options.installed else ""
    heads = f"network | Fovea | PyTorch{installed} | ratio | of processor seconds | peak memory | start-up | nodes"
    print(f"| {heads} |\n|{' --- |' * (heads.count('|') + 1)}", flush=True)
    for name in options.networks:
        compare(name, options)


if __name__ == "__main__":
    main()
