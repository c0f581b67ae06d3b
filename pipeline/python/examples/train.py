"""Trains torchvision's ResNet-18 on shards; run again after an interruption, it goes on at the very batch.

    pip install ./pipeline/python torch torchvision
    python pipeline/python/examples/train.py SHARDS --epochs 90

Prints a line for each batch with `--verbose`, so that an interrupted run can be compared with one that was not.
"""

import argparse
import os

import torch
import torchvision

import fovea_loader as fovea


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards")
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224, help="side of the crops in pixels [default: 224]")
    parser.add_argument("--checkpoint", default="last.pt")
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
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "data": train.state_dict()}
        torch.save(state, options.checkpoint + ".new")
        os.replace(options.checkpoint + ".new", options.checkpoint)

    if os.path.exists(options.checkpoint):
        state = torch.load(options.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        train.load_state_dict(state["data"])

    for epoch in train.epochs(options.epochs):
        model.train()
        for step, (images, target) in enumerate(epoch, start=1):
            loss = torch.nn.functional.cross_entropy(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if options.verbose:
                print(f"epoch {epoch.number}: pixels {images.sum().item():.4f}, classes {target.tolist()}", flush=True)
            if step % options.save_every == 0:
                save()
        model.eval()
        with torch.no_grad():
            right = sum((model(images).argmax(1) == target).sum().item() for images, target in val)
        print(f"epoch {epoch.number}: top-1 error on validation images {1 - right / len(val.dataset):.1%}", flush=True)
        save()


if __name__ == "__main__":
    main()
