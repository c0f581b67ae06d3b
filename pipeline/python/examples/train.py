"""Trains torchvision's ResNet-18 on shards; run again after an interruption, it goes on with the batches that follow.

    pip install ./pipeline/python torch torchvision
    python pipeline/python/examples/train.py SHARDS --epochs 90

A run that was killed and started again prints with `--verbose` the lines of one that was not: classes, pixels and loss
of each batch.
"""

import argparse
import os

import torch
import torchvision

import fovea_loader as fovea


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", help="a prepared folder, or its URL")
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224, help="side of the crops in pixels [default: 224]")
    parser.add_argument("--checkpoint", default="last.pt", help="is written, and resumed from if it exists [default: last.pt]")
    parser.add_argument("--save-every", type=int, default=1000, help="batches [default: 1000]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--verbose", action="store_true", help="print every batch")
    options = parser.parse_args()

    torch.manual_seed(0)
    form = {"dtype": "float32", "mean": fovea.IMAGENET_MEAN, "std": fovea.IMAGENET_STD, "device": options.device}
    augmentation = [fovea.RandomResizedCrop(options.crop), fovea.Flip()]
    train = fovea.Loader(options.shards, batch_size=options.batch, seed=1, transform=augmentation, **form)
    val = fovea.Loader(options.shards, "val", batch_size=options.batch, transform=[fovea.CenterCrop(options.crop)], **form)

    model = torchvision.models.resnet18(num_classes=len(train.dataset.classes)).to(options.device)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)

    def save():
        """The old checkpoint stays until the new one is whole and on disk."""
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "data": train.state_dict()}
        with open(options.checkpoint + ".new", "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(options.checkpoint + ".new", options.checkpoint)

    if os.path.exists(options.checkpoint):
        state = torch.load(options.checkpoint, map_location=options.device)
        train.load_state_dict(state["data"])  # refuses the checkpoint of another data set
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        position = train.state_dict()
        print(f"goes on from {options.checkpoint}: epoch {position['epoch']}, after {position['sample_in_epoch']} images")

    for epoch in train.epochs(options.epochs):  # the first is what is left of its epoch
        model.train()
        for step, (images, target) in enumerate(epoch, start=1):
            loss = torch.nn.functional.cross_entropy(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if options.verbose:
                pixels = f"pixels {images.sum().item():.4f}, classes {target.tolist()}"
                print(f"epoch {epoch.number}: {pixels}, loss {loss.item():.6f}", flush=True)
            if step % options.save_every == 0:
                save()
        model.eval()
        with torch.no_grad():
            right = sum((model(images).argmax(1) == target).sum().item() for images, target in val)
        print(f"epoch {epoch.number}: top-1 error on validation images {1 - right / len(val.dataset):.1%}", flush=True)
        save()


if __name__ == "__main__":
    main()
