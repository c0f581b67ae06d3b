"""Training steps of networks from files, in Fovea and in PyTorch: time, memory, start-up, and the size of the graph.

    cargo build --release --bin trainer
    python compare_networks.py --folder nets [--px 112] [--batch 32] [--steps 5] [--rounds 3] [NETWORK …]
    python compare_networks.py --folder nets --device cuda --precision tf32 --compile [NETWORK …]

Needs torch, torchvision, onnx, and timm for its networks. A network is one of zoo.py or of torchvision: exported in
training mode, with 10 classes, without dropout and stochastic depth. Both train it by SGD with momentum on a batch of
noise, u8, normalised in the step. The two alternate, each in its own process, as in compare_pytorch.py. PyTorch runs with
glibc's allocator tuned to keep large blocks, which avoids page faults, and with `--installed` without as well, with
`--compile` through `torch.compile` as well: ratios are to the first. A line is a row of the table in docs/BENCHMARKS.md;
`nodes` are those of the training graph and of the file. `--json` prints objects in place of rows.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import onnx
import torch

import zoo
from compare_pytorch import TRAINER, TUNED, in_turns, run, set_up, take_steps


def network(name, px):
    """The list of zoo.py, at other image sizes, and everything else in torchvision."""
    sized = {"vit_b_16": zoo.torchvision_network("vit_b_16", image_size=px)}
    sized["vit_small"] = zoo.timm_network("vit_small_patch16_224", img_size=px)
    build = sized.get(name) or zoo.NETWORKS.get(name, (None, zoo.torchvision_network(name)))[1]
    zoo.NETWORKS[name] = (px, build)


def pytorch(options):
    """Takes the steps and prints the measurements as JSON; runs in its own process."""
    set_up(options)
    (name,) = options.networks
    network(name, options.px)
    module = zoo.module_of(name).train().to(options.device)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (options.batch, 3, options.px, options.px), dtype=torch.uint8, generator=random)
    labels = torch.arange(options.batch) % zoo.CLASSES
    mean, std = (torch.tensor(values, device=options.device).reshape(3, 1, 1) for values in (zoo.MEAN, zoo.STD))

    def loss_of(x, labels):
        return torch.nn.functional.cross_entropy(module((x.float() - mean) / std), labels)

    take_steps(options, images, labels, module.parameters(), loss_of, lr=zoo.LEARNING_RATE, momentum=zoo.MOMENTUM)


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
    other = [sys.executable, __file__, name, "--folder", str(options.folder), "--pytorch"]
    for key in ("px", "batch", "steps", "threads", "device", "precision"):
        other += [f"--{key}", str(getattr(options, key))]
    compiled = lambda: run(other + ["--compiled"], **TUNED)
    if options.warm_up:
        return compiled() is not None
    graphs = file.with_suffix(".graphs")
    subprocess.run([TRAINER, "graphs", *common, "--out", graphs], check=True, stdout=subprocess.DEVNULL)
    bench = [TRAINER, "bench", *common, "--threads", str(options.threads), "--steps", str(options.steps), "--json"]
    bench += ["--device", options.device, "--precision", options.precision, "--no-copy-ahead"]
    runners = {"fovea": lambda: run(bench), "tuned": lambda: run(other, **TUNED)}
    if options.installed:
        runners["pytorch"] = lambda: run(other)
    if options.compile:
        runners["compiled"] = compiled
    found = in_turns(runners, options.rounds)
    nodes = (nodes_of(file), nodes_of(graphs / "train.onnx"))
    median, cpu, peak = {}, {}, {}
    for runner, runs in found.items():
        # Without the first step of each process, which allocates memory.
        median[runner] = statistics.median(s for one in runs for s in one["step_s"][1:])
        cpu[runner] = statistics.median(s for one in runs for s in one["step_cpu_s"][1:])
        peak[runner] = max(one["peak_bytes"] for one in runs) / 1e9
    result = {"network": name, "px": options.px, "batch": options.batch, "device": options.device}
    result |= {"precision": options.precision, "step_s": median, "step_cpu_s": cpu, "peak_gb": peak, "nodes": nodes}
    if "fovea" in found:
        result["start_s"] = min(one["startup_s"] for one in found["fovea"])
    with (options.folder / "speed.jsonl").open("a") as out:
        print(json.dumps(result), file=out)
    if options.json:
        print(json.dumps(result), flush=True)
    elif {"fovea", "tuned"} <= set(found):
        others = "".join(f" | {median[runner]:.3f} s" for runner in ("pytorch", "compiled") if runner in found)
        print(
            f"| {name} | {median['fovea']:.3f} s | {median['tuned']:.3f} s{others} | "
            f"{median['fovea'] / median['tuned']:.2f} | {cpu['fovea'] / cpu['tuned']:.2f} | "
            f"{peak['fovea']:.2f} / {peak['tuned']:.2f} GB | {result['start_s']:.1f} s | "
            f"{nodes[1]} / {nodes[0]} = {nodes[1] / nodes[0]:.1f} |",
            flush=True,
        )
    return set(found) == set(runners)


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
    parser.add_argument("--device", default="cpu", help="cpu or cuda; default: cpu")
    parser.add_argument("--precision", choices=["f32", "tf32", "f16"], default="f32", help="default: f32")
    parser.add_argument("--compile", action="store_true", help="PyTorch with torch.compile as well")
    parser.add_argument("--json", action="store_true", help="print JSON objects in place of a table")
    parser.add_argument("--warm-up", action="store_true", help="only export, and fill the cache of torch.compile")
    parser.add_argument("--pytorch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pytorch:
        return pytorch(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    others = " | PyTorch as installed" * options.installed + " | PyTorch, compiled" * options.compile
    heads = f"network | Fovea | PyTorch{others} | ratio | of processor seconds | peak memory | start-up | nodes"
    if not (options.json or options.warm_up):
        print(f"| {heads} |\n|{' --- |' * (heads.count('|') + 1)}", flush=True)
    return int(not all([compare(name, options) for name in options.networks]))


if __name__ == "__main__":
    sys.exit(main())
