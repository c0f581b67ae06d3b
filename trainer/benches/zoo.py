"""Networks of torchvision and timm through Fovea, compared with PyTorch: export, import, gradients, steps, statistics.

    cargo build --release --bin trainer
    python zoo.py --folder zoo [--steps 20] [--kind script/train …] [NETWORK …]
    python zoo.py --folder zoo timm:cspresnet50 timm:levit_128s:224 torchvision:wide_resnet50_2
    python zoo.py --folder zoo --table

A network is one of the list below, or timm:NAME[:SIDE] or torchvision:NAME[:SIDE], of 64 px where no side is given.
Needs torch, torchvision, timm, onnx, onnxscript, onnxruntime and safetensors. Each network has 10 classes, random
weights and random statistics; dropout and stochastic depth are off, since PyTorch draws them otherwise. `trainer graphs`
writes the graphs of a training session, Python's onnxruntime runs them. The reference is the PyTorch module in f64; a
file whose normalisations are folded into its convolutions is compared with a module whose are folded too.

A line of `results.jsonl` has, for one file: whether it imports; `gradient`, the largest error of a parameter's gradient
divided by the largest element of the latter; `loss`, the largest error of the loss in the steps; `statistics`, that of
the running statistics at the end, relative to the largest of each; the same of PyTorch in f32 as `torch_…`.

Rounding puts a rectified element that is almost 0 on its other side, and all that flows back through it with it. Where
`gradient` is far off, the elements of the f64 reference that are nearest to 0 are put on their other side one by one.
`kinks` lists those that bring the gradients nearer to Fovea's, each with its distance from 0 in standard deviations of
its tensor, and `gradient_past_kinks` is the error that is left.
"""

import argparse
import collections
import contextlib
import copy
import io
import json
import logging
import pathlib
import re
import shutil
import subprocess
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from compare_pytorch import TRAINER

warnings.filterwarnings("ignore")
CLASSES, ROWS, BATCHES = 10, 8, 2
# Gradients are far off above this error, where those of PyTorch's f32 are three times as near.
FAR_OFF = 1e-5
# Elements nearest to 0 that are put on their other side.
KINKS_TRIED = 16
LEARNING_RATE, MOMENTUM = 0.00002, 0.9
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
KINDS = ["script/eval", "dynamo/eval", "script/train"]
RECIPE = """name = "zoo"
description = "a network from a file"
input = {{ image_px = {px}, crop_px = {px}, mean = {mean}, std = {std} }}
augmentation = {{ train = [] }}
optimizer = {{ learning_rate = {rate}, momentum = {momentum}, weight_decay = 0.0 }}
schedule = {{ kind = "multi_step", gamma = 0.1, milestones = [1000] }}
training = {{ batch_size = {rows}, epochs = 1 }}
evaluation = {{ every_epoch = "center", at_end = "center" }}
network = {{ onnx = {file} }}
"""


def torchvision_network(name, **options):
    def build():
        import torchvision

        return getattr(torchvision.models, name)(weights=None, num_classes=CLASSES, **options)

    return build


def timm_network(name, **options):
    def build():
        import timm

        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)

    return build


def by_source(source, name, side):
    """What builds a network of either library, for images of that side where the network asks for it."""
    if source == "torchvision":
        return torchvision_network(name)

    def build():
        try:
            return timm_network(name, img_size=side)()
        except TypeError:
            return timm_network(name)()

    return build


def add_by_source(name):
    """Adds SOURCE:NAME[:SIDE] to the networks; whether it could be read."""
    match = re.fullmatch(r"(timm|torchvision):(\w+)(?::(\d+))?", name)
    if match:
        side = int(match[3] or 64)
        NETWORKS[name] = (side, by_source(match[1], match[2], side))
    return bool(match)


PLAIN = {"aux_logits": False, "init_weights": False}
# Name: side of the images in pixels, and what builds the network.
NETWORKS = {
    "resnet18": (64, torchvision_network("resnet18")),
    "mobilenet_v3_small": (64, torchvision_network("mobilenet_v3_small")),
    "convnext_tiny": (64, torchvision_network("convnext_tiny")),
    "vit_small": (64, timm_network("vit_small_patch16_224", img_size=64)),
    "alexnet": (224, torchvision_network("alexnet")),
    "vgg11": (224, torchvision_network("vgg11")),
    "vgg11_bn": (224, torchvision_network("vgg11_bn")),
    "resnet50": (64, torchvision_network("resnet50")),
    "mobilenet_v2": (64, torchvision_network("mobilenet_v2")),
    "densenet121": (64, torchvision_network("densenet121")),
    "squeezenet1_1": (64, torchvision_network("squeezenet1_1")),
    "googlenet": (64, torchvision_network("googlenet", **PLAIN)),
    "inception_v3": (96, torchvision_network("inception_v3", **PLAIN)),
    "shufflenet_v2_x1_0": (64, torchvision_network("shufflenet_v2_x1_0")),
    "mnasnet1_0": (64, torchvision_network("mnasnet1_0")),
    "efficientnet_b0": (64, torchvision_network("efficientnet_b0")),
    "efficientnet_v2_s": (64, torchvision_network("efficientnet_v2_s")),
    "regnet_y_400mf": (64, torchvision_network("regnet_y_400mf")),
    "vit_b_16": (64, torchvision_network("vit_b_16", image_size=64)),
    "swin_t": (64, torchvision_network("swin_t")),
    "timm_resnetv2_50": (64, timm_network("resnetv2_50")),
    "timm_mixer_s16": (64, timm_network("mixer_s16_224", img_size=64)),
    "timm_deit_tiny": (64, timm_network("deit_tiny_patch16_224", img_size=64)),
    "timm_convmixer_768_32": (64, timm_network("convmixer_768_32")),
    "timm_mobilevit_xxs": (64, timm_network("mobilevit_xxs")),
    "timm_poolformer_s12": (64, timm_network("poolformer_s12")),
    "timm_repvgg_a0": (64, timm_network("repvgg_a0")),
    "timm_fastvit_t8": (64, timm_network("fastvit_t8")),
}


def module_of(name):
    """The module with random weights, no two alike, and random statistics; nothing is dropped in training."""
    torch.manual_seed(0)
    module = NETWORKS[name][1]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.running_mean += 0.1 * torch.randn(part.running_mean.shape, generator=generator)
                part.running_var *= 0.5 + torch.rand(part.running_var.shape, generator=generator)
            for attribute in ("p", "drop_prob"):
                if isinstance(getattr(part, attribute, None), float):
                    setattr(part, attribute, 0.0)
            if isinstance(getattr(part, "dropout", None), float):
                part.dropout = 0.0
        seen = set()
        for parameter in module.parameters():
            # Exporters write equal values once, and a matrix that is its own transpose matches both ways.
            is_known = parameter.numpy().tobytes() in seen
            is_symmetric = parameter.ndim == 2 and torch.equal(parameter, parameter.T)
            if parameter.numel() > 1 and (is_known or is_symmetric or parameter.min() == parameter.max()):
                spread = 0.1 if parameter.max() > 0.5 else 0.02
                parameter += spread * torch.randn(parameter.shape, generator=generator)
            seen.add(parameter.numpy().tobytes())
    return module


def export(name, kind, path, fixed):
    exporter, mode, *opset = kind.split("/")
    opset = int(opset[0]) if opset else 17 if exporter == "script" else None
    module = module_of(name).train(mode == "train")
    side = NETWORKS[name][0]
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(5))
    names = {"input_names": ["x"], "output_names": ["logits"]}
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if exporter == "dynamo":
            shapes = None if fixed else {"dynamic_shapes": ({0: torch.export.Dim("N")},)}
            names |= {"opset_version": opset} | (shapes or {})
            torch.onnx.export(module, (images,), path, dynamo=True, verbose=False, **names)
            return
        if not fixed:
            names["dynamic_axes"] = {"x": {0: "N"}, "logits": {0: "N"}}
        if mode == "train":
            names |= {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}
        torch.onnx.export(module, (images,), path, dynamo=False, opset_version=opset, **names)


def graphs(name, path, folder):
    """The graphs of a training session, or the error."""
    shutil.rmtree(folder, ignore_errors=True)
    recipe = folder.with_suffix(".toml")
    values = {"px": NETWORKS[name][0], "mean": MEAN, "std": STD, "rate": LEARNING_RATE, "momentum": MOMENTUM}
    recipe.write_text(RECIPE.format(rows=ROWS, file=json.dumps(str(path)), **values))
    command = [TRAINER, "graphs", "--recipe", recipe, "--classes", str(CLASSES), "--out", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip()


class Fovea:
    """A training session over the graphs in a folder."""

    def __init__(self, folder):
        import onnxruntime
        from safetensors.numpy import load_file

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self.train, self.update = (
            onnxruntime.InferenceSession(folder / f"{graph}.onnx", options, providers=providers)
            for graph in ("train", "update")
        )
        self.about = json.loads((folder / "graphs.json").read_text())
        self.state = load_file(folder / "state.safetensors")
        self.outputs = [output.name for output in self.train.get_outputs()]

    def gradients(self, images, labels):
        names = ["mean", *(tensor["name"] for tensor in self.about["parameters"] + self.about["buffers"])]
        feed = {name: self.state[name] for name in names} | {"images": images, "labels": labels}
        feed |= {"valid": np.ones(ROWS, bool), "offsets": np.zeros((ROWS, 3), np.float32)}
        feed["gradient_scale"] = np.array(1 / ROWS, np.float32)
        feed |= {mask["name"]: np.ones(mask["shape"], bool) for mask in self.about["masks"]}
        feed |= {noise["name"]: np.zeros(noise["shape"], np.float32) for noise in self.about["noises"]}
        taken = {port.name for port in self.train.get_inputs()}
        feed = {name: value for name, value in feed.items() if name in taken}
        given = dict(zip(self.outputs, self.train.run(self.outputs, feed)))
        return float(given["loss"]) / ROWS, given

    def step(self, images, labels):
        loss, given = self.gradients(images, labels)
        for parameter in self.about["parameters"]:
            name = parameter["name"]
            pieces = {"weights": self.state[name].ravel(), "gradients": given[f"{name}.gradient"].ravel()}
            pieces["momentum_buffer"] = self.state[f"{name}.momentum"].ravel()
            pieces |= {key: np.array(value, np.float32) for key, value in parameter["hyperparameters"].items()}
            new = self.update.run(["new_weights", "new_momentum_buffer"], pieces)
            shape = self.state[name].shape
            self.state[name], self.state[f"{name}.momentum"] = (values.reshape(shape) for values in new)
        for buffer in self.about["buffers"]:
            self.state[buffer["name"]] = self.state[buffer["name"]] + given[f"{buffer['name']}.change"]
        return loss


def reference_of(name, is_folded):
    """The module that a file holds, in training: exports for inference have normalisations folded."""
    module = module_of(name)
    return (fold(module.eval(), NETWORKS[name][0]) if is_folded else module).train()


class Uses(TorchFunctionMode):
    """Counts how many tensors are made of each tensor, by its id."""

    def __init__(self):
        super().__init__()
        self.counts, self.kept = collections.Counter(), []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            operands = [part for arg in args for part in (arg if isinstance(arg, (list, tuple)) else [arg])]
            self.counts.update(id(operand) for operand in operands if isinstance(operand, torch.Tensor))
            # An id is a tensor's own only while that tensor lives.
            self.kept.append((result, args))
        return result


def fold(module, side):
    """The module with normalisations folded into the convolutions before them; all parameters are trained.

    Exporters do so where a convolution's output has no other use.
    """
    outputs, pairs = {}, []

    def after_conv(conv, _, output):
        outputs[id(output)] = (conv, output)

    def before_norm(norm, inputs):
        if id(inputs[0]) in outputs:
            pairs.append((*outputs[id(inputs[0])], norm))

    parts = list(module.modules())
    hooks = [part.register_forward_hook(after_conv) for part in parts if isinstance(part, torch.nn.Conv2d)]
    hooks += [part.register_forward_pre_hook(before_norm) for part in parts if isinstance(part, torch.nn.BatchNorm2d)]
    with torch.no_grad(), Uses() as uses:
        module(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    for conv, output, norm in pairs:
        if uses.counts[id(output)] > 1:
            continue
        values = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weight, bias = torch.nn.utils.fusion.fuse_conv_bn_weights(conv.weight, conv.bias, *values)
        conv.weight, conv.bias = (torch.nn.Parameter(tensor.detach()) for tensor in (weight, bias))
        # Those of timm hold the activation that follows.
        rest = torch.nn.Sequential(*(getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)))
        for parent in module.modules():
            for child, part in parent.named_children():
                if part is norm:
                    setattr(parent, child, rest)
    return module


def matched(ours, theirs):
    """Names of the module's tensors by those of the file: the same name, else the same values, perhaps transposed."""
    left = {name: tensor.detach().double().numpy() for name, tensor in theirs.items()}
    pairs = {}

    def forms(values):
        yield values, lambda tensor: tensor
        if values.ndim == 2:
            yield values.T, lambda tensor: tensor.T

    def close(a, b):
        if a.size != b.size:
            return False
        # An exporter drops and adds axes of length 1.
        return np.abs(a.ravel() - b.ravel()).max() <= 1e-5 * max(np.abs(b).max(), 1e-6)

    for by_name in (True, False):
        for name, values in ours.items():
            if name in pairs:
                continue
            for other in [name] if by_name else list(left):
                if other not in left:
                    continue
                form = next((form for seen, form in forms(left[other]) if close(values, seen)), None)
                if form:
                    pairs[name] = (other, form)
                    left.pop(other)
                    break
    return pairs, list(left)


def error(ours, theirs):
    return float(np.abs(ours.ravel() - theirs.ravel()).max() / max(np.abs(theirs).max(), 1e-30))


class Rectified(TorchFunctionMode):
    """Notes the operands of rectifiers, and puts given elements of them, by call, on the other side of 0."""

    CALLS = {torch.relu, torch.relu_, F.relu, F.relu_, F.leaky_relu, F.relu6, torch.Tensor.relu, torch.Tensor.relu_}

    def __init__(self, flipped):
        super().__init__()
        self.flipped, self.operands = flipped, []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.CALLS:
            operand, *rest = args
            self.operands.append(operand.detach())
            change = torch.zeros(operand.numel(), dtype=operand.dtype)
            for element in self.flipped.get(len(self.operands) - 1, ()):
                change[element] = -2 * operand.detach().flatten()[element]
            args = (operand + change.reshape(operand.shape), *rest)
        return function(*args, **(kwargs or {}))


def past_kinks(gradients_past, errors_against):
    """The rectified elements that rounding put on their other side, and the errors of gradients without them.

    `gradients_past(flipped)` gives the exact gradients with these elements, by call, on the other side, and the
    operands of all rectifiers; `errors_against(gradients)` gives Fovea's errors against them.
    """
    gradients, operands = gradients_past({})
    errors = errors_against(gradients)
    near = []
    for call, operand in enumerate(operands):
        distances = operand.abs().flatten() / operand.std()
        near += [(distances[element].item(), call, element) for element in distances.argsort()[:4].tolist()]
    flipped, kinks = collections.defaultdict(list), []
    for distance, call, element in sorted(near)[:KINKS_TRIED]:
        flipped[call].append(element)
        nearer = errors_against(gradients_past(flipped)[0])
        if np.log(nearer).sum() < np.log(errors).sum() - 1:
            errors = nearer
            kinks.append(distance)
        else:
            flipped[call].pop()
    return kinks, errors


def compare(name, kind, folder, steps):
    fovea = Fovea(folder)
    side = NETWORKS[name][0]
    random = np.random.default_rng(3)
    batches = [
        (random.integers(0, 256, (ROWS, 3, side, side), np.uint8), random.integers(0, CLASSES, ROWS))
        for _ in range(BATCHES)
    ]
    names = [parameter["name"] for parameter in fovea.about["parameters"]]
    module = reference_of(name, kind.split("/")[1] == "eval")
    pairs, left = matched({n: fovea.state[n] for n in names}, dict(module.named_parameters()))
    # An export in training mode moves the statistics.
    with torch.no_grad():
        for buffer, value in module.named_buffers():
            if buffer in fovea.state:
                value.copy_(torch.from_numpy(fovea.state[buffer]))
    result = {"parameters": len(names), "unmatched": len(names) - len(pairs), "left": len(left)}

    def normal(images, like):
        mean, std = (torch.tensor(values, dtype=torch.float64).reshape(3, 1, 1) for values in (MEAN, STD))
        return ((torch.from_numpy(images).double() - mean) / std).to(like)

    def loss_of(module, batch):
        like = next(module.parameters()).dtype
        return F.cross_entropy(module(normal(batch[0], like)), torch.from_numpy(batch[1]))

    def gradients_of(network):
        probe = copy.deepcopy(network)
        loss_of(probe, batches[0]).backward()
        return {key: value.grad.double().numpy() for key, value in probe.named_parameters() if value.grad is not None}

    exact = copy.deepcopy(module).double()
    single = copy.deepcopy(module)
    gradients = {"exact": gradients_of(exact), "single": gradients_of(single)}
    _, given = fovea.gradients(*batches[0])
    largest = max(np.abs(gradient).max() for gradient in gradients["exact"].values())
    # A bias before a normalisation has no gradient but rounding.
    counted = {
        ours: (theirs, form)
        for ours, (theirs, form) in pairs.items()
        if theirs in gradients["exact"] and np.abs(gradients["exact"][theirs]).max() >= 1e-7 * largest
    }

    def errors_against(reference):
        return [error(given[f"{ours}.gradient"], form(reference[theirs])) for ours, (theirs, form) in counted.items()]

    errors = errors_against(gradients["exact"])
    of_torch = [error(gradients["single"][theirs], gradients["exact"][theirs]) for theirs, _ in counted.values()]
    result |= {"gradient": max(errors), "torch_gradient": max(of_torch), "gradient_of": list(counted)[np.argmax(errors)]}
    if result["gradient"] > max(FAR_OFF, 3 * result["torch_gradient"]):

        def gradients_past(flipped):
            with Rectified(flipped) as rectified:
                return gradients_of(exact), rectified.operands

        result["kinks"], errors = past_kinks(gradients_past, errors_against)
        result["gradient_past_kinks"] = max(errors)
    losses = {}
    for run, network in {"exact": exact, "single": single}.items():
        optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        losses[run] = []
        for step in range(steps):
            optimizer.zero_grad()
            loss = loss_of(network, batches[step % BATCHES])
            loss.backward()
            optimizer.step()
            losses[run].append(loss.item())
    ours = [fovea.step(*batches[step % BATCHES]) for step in range(steps)]
    far = lambda a, b: max(abs(x - y) for x, y in zip(a, b))
    result |= {"steps": steps, "loss": far(ours, losses["exact"]), "torch_loss": far(losses["single"], losses["exact"])}
    buffers = [buffer["name"] for buffer in fovea.about["buffers"]]
    exact_buffers, single_buffers = dict(exact.named_buffers()), dict(single.named_buffers())
    known = [name for name in buffers if name in exact_buffers]
    result |= {"buffers": len(buffers), "unmatched_buffers": len(buffers) - len(known)}
    if known:
        result["statistics"] = max(error(fovea.state[n], exact_buffers[n].numpy()) for n in known)
        result["torch_statistics"] = max(
            error(single_buffers[n].double().numpy(), exact_buffers[n].numpy()) for n in known
        )
    return result | {"first_loss": ours[0], "last_loss": ours[-1]}


def table(results):
    latest = {(result["network"], result["kind"]): result for result in results}
    heads = ["network"] + [f"{kind}: {what}" for kind in KINDS for what in ("gradient", "loss")]
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    for name in NETWORKS:
        cells = []
        for kind in KINDS:
            result = latest.get((name, kind), {})
            if "error" in result:
                cells += ["no", result["error"].split(":")[-1].strip()[:60]]
            else:
                cells += [f"{result[key]:.0e}" if key in result else "" for key in ("gradient", "loss")]
        print(f"| {name} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="default: all")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="exports, graphs and results")
    parser.add_argument("--kind", action="append", help="exporter/mode[/operator set]; default: " + ", ".join(KINDS))
    parser.add_argument("--steps", type=int, default=20, help="default: 20")
    parser.add_argument("--fixed", action="store_true", help="export for a batch of 2 instead of any")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch; default: 2")
    parser.add_argument("--table", action="store_true", help="print the results so far")
    options = parser.parse_args()
    unknown = [name for name in options.networks if name not in NETWORKS and not add_by_source(name)]
    if unknown:
        parser.error(f"unknown networks {', '.join(unknown)}; known: {', '.join(NETWORKS)}")
    results = options.folder / "results.jsonl"
    if options.table:
        return table([json.loads(line) for line in results.read_text().splitlines()])
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    batch = ".fixed" if options.fixed else ""
    for name in options.networks or NETWORKS:
        for kind in options.kind or KINDS:
            stem = f"{name.replace(':', '.')}.{kind.replace('/', '.')}{batch}"
            path = (options.folder / f"{stem}.onnx").absolute()
            result = {"network": name, "kind": kind, "fixed": options.fixed}
            try:
                if not path.exists():
                    export(name, kind, path, options.fixed)
                folder = options.folder / f"{stem}.graphs"
                refused = graphs(name, path, folder)
                result |= {"error": refused} if refused else compare(name, kind, folder, options.steps)
                shutil.rmtree(folder, ignore_errors=True)
            except Exception as reason:
                result["error"] = f"{type(reason).__name__}: {reason}".splitlines()[0]
            with results.open("a") as out:
                print(json.dumps(result), file=out)
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
