"""Fine-tuning in Fovea and in PyTorch, by the same recipe on the same photos: the validation error after each epoch.

    cargo build --release --bin trainer --bin prepare_imagenet
    python compare_finetuning.py --photos CIFAR-10 --folder work [--per-class 500] [--epochs 8] [--seeds 2]

Needs torch, torchvision, onnx and Pillow. CIFAR-10 is a folder with `train` and `test`, each with a folder for each
class. PyTorch first trains torchvision's ResNet-18 on all photos of eight classes; the file that it exports is then
fine-tuned on a few photos of each of the ten classes by the recipe `finetune`, with a new last layer, at a larger rate
as for small images. PyTorch does the same with torchvision's augmentation: AdamW, no decay of vectors, ten times the rate
for the last layer, cosine after half an epoch of warm-up for each step, label smoothing. What is random differs: the
last layer's initial values, order and augmentation. Both measure on the same validation photos, uncropped.
"""

import argparse
import csv
import json
import math
import os
import pathlib
import shutil
import subprocess

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torchvision.transforms import v2

from compare_pytorch import TARGET
from zoo import MEAN, STD

SIDE, BATCH, RATE = 32, 64, 0.001
LEFT_OUT = 2


def photos_of(folder, classes, most):
    """Paths and labels of the first photos of each class."""
    chosen = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name).iterdir())[:most]]
    return [path for path, _ in chosen], torch.tensor([label for _, label in chosen])


def tensor(paths):
    """The photos as u8 [N,3,H,W]."""
    return torch.stack([torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) for path in paths])


def normalised(images):
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return (images.float() - mean) / std


def groups(module):
    """Parameters as in the recipe: vectors without decay, the last layer at ten times the rate."""
    head = {"fc.weight", "fc.bias"}
    for name, parameter in module.named_parameters():
        yield {
            "params": [parameter],
            "weight_decay": 0.0 if parameter.dim() == 1 else 0.05,
            "lr": RATE * (10 if name in head else 1),
        }


def train(module, train_set, val_set, epochs, seed):
    """Trains and returns the error on the validation photos after each epoch."""
    torch.manual_seed(seed)
    (images, labels), (val_images, val_labels) = train_set, val_set
    # As in Fovea, images that do not fill a batch come in other epochs.
    steps = len(images) // BATCH
    warm_up, total = steps // 2, steps * epochs

    def factor(step):
        if step < warm_up:
            return 0.01 + (1 - 0.01) * step / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (total - warm_up)))

    optimizer = torch.optim.AdamW(list(groups(module)), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    crop = v2.RandomResizedCrop(SIDE, scale=(0.35, 1.0), antialias=True)
    augment = v2.Compose([crop, v2.RandomHorizontalFlip()])
    errors = []
    for _ in range(epochs):
        module.train()
        order = torch.randperm(len(images))
        for first in range(0, steps * BATCH, BATCH):
            chosen = order[first : first + BATCH]
            batch = torch.stack([augment(images[at]) for at in chosen])
            loss = F.cross_entropy(module(normalised(batch)), labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        module.eval()
        with torch.no_grad():
            found = torch.cat([module(normalised(part)).argmax(1) for part in val_images.split(500)])
        errors.append((found != val_labels).float().mean().item())
        print(f"  epoch {len(errors)}: {errors[-1]:.4f}", flush=True)
    return errors


def export(module, path):
    names = {"input_names": ["x"], "output_names": ["logits"], "dynamic_axes": {"x": {0: "N"}, "logits": {0: "N"}}}
    mode = torch.onnx.TrainingMode.TRAINING
    images = torch.zeros(2, 3, SIDE, SIDE)
    torch.onnx.export(module.train(), (images,), path, dynamo=False, training=mode, do_constant_folding=False, **names)


def pretrained(options, classes):
    """ResNet-18, trained on all photos of all classes but the last two."""
    path = options.folder / "pretrained.pt"
    module = torchvision.models.resnet18(num_classes=len(classes) - LEFT_OUT)
    if not path.exists():
        known = classes[:-LEFT_OUT]
        paths, labels = photos_of(options.photos / "train", known, options.pretraining)
        val_paths, val_labels = photos_of(options.photos / "test", known, 200)
        print("pretraining")
        train(module, (tensor(paths), labels), (tensor(val_paths), val_labels), 3, 0)
        torch.save(module.state_dict(), path)
    module.load_state_dict(torch.load(path))
    return module


def fovea(options, data, network, epochs, seed):
    """The validation error after each epoch."""
    run = options.folder / f"run-{seed}"
    shutil.rmtree(run, ignore_errors=True)
    keys = {
        "input.image_px": SIDE,
        "input.crop_px": SIDE,
        "optimizer.learning_rate": RATE,
        "training.batch_size": BATCH,
        "training.epochs": epochs,
    }
    command = [TARGET / "release" / "trainer" if options.trainer is None else options.trainer]
    command += ["--data", data, "--network", network, "--classes", "auto", "--recipe", "finetune", "--run", run]
    command += ["--seed", str(seed), "--device", "cpu", "--threads", str(options.threads)]
    command += [argument for key, value in keys.items() for argument in ("--set", f"{key}={value}")]
    subprocess.run(command, check=True)
    with open(run / "epochs.csv", newline="") as file:
        return [float(row["val_top1"]) for row in csv.DictReader(file)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="for everything that is made")
    parser.add_argument("--pretraining", type=int, default=2500, help="photos of each class, for pretraining")
    parser.add_argument("--per-class", type=int, default=500, help="photos of each class")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trainer", help="the program, if it is not in the target folder")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    classes = sorted(folder.name for folder in (options.photos / "train").iterdir())

    sets = {}
    for split, most in (("train", options.per_class), ("test", None)):
        paths, labels = photos_of(options.photos / split, classes, most)
        sets[split] = (tensor(paths), labels)
        for path in paths:
            link = options.folder / "photos" / {"test": "val"}.get(split, split) / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                shutil.copyfile(path, link)
    data = options.folder / "data"
    prepare = TARGET / "release" / "prepare_imagenet"
    if options.trainer is not None:
        prepare = pathlib.Path(options.trainer).with_name("prepare_imagenet")
    subprocess.run([prepare, "--train", options.folder / "photos", "--size", str(SIDE), "--out", data], check=True)

    network = options.folder / "resnet18.onnx"
    export(pretrained(options, classes), network)
    curves = {"Fovea": [], "PyTorch": []}
    for seed in range(1, options.seeds + 1):
        print(f"seed {seed}")
        curves["Fovea"].append(fovea(options, data, network, options.epochs, seed))
        module = pretrained(options, classes)
        torch.manual_seed(100 + seed)
        module.fc = torch.nn.Linear(module.fc.in_features, len(classes))
        curves["PyTorch"].append(train(module, sets["train"], sets["test"], options.epochs, seed))
    (options.folder / "curves.json").write_text(json.dumps(curves))
    print("| epoch | " + " | ".join(str(epoch + 1) for epoch in range(options.epochs)) + " |")
    print("| --- |" + " --- |" * options.epochs)
    for name, runs in curves.items():
        for seed, errors in enumerate(runs, 1):
            print(f"| {name}, seed {seed} | " + " | ".join(f"{100 * error:.1f}" for error in errors) + " |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
