"""Compares the pixels of `decode_photos` with those of Pillow.

    cargo build --example decode_photos
    python datasets/benches/compare_decoders.py target/debug/examples/decode_photos [--random N] [FOLDER...]

Looks at all JPEG files below the folders, and at N random ones (1000 by default) of 1 to 300 pixels. A file that
Pillow reads must be read to pixels that differ by two levels at most on average; what differs or is refused is
listed, and the exit code is 1. Where `simplejpeg` is installed, files of which libjpeg warns may be refused.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

LARGEST_MEAN_DIFFERENCE = 2.0


def random_picture(draw):
    longest = 40 if draw.random() < 0.3 else 300
    width, height = draw.randint(1, longest), draw.randint(1, longest)
    mode = draw.choice(["L", "RGB", "RGB", "CMYK"])
    channels = len(Image.new(mode, (1, 1)).getbands())
    y, x = np.mgrid[:height, :width]
    if draw.random() < 0.3:
        noise = np.random.default_rng(draw.randrange(1 << 30))
        planes = [noise.integers(0, 256, (height, width)) for _ in range(channels)]
    else:
        planes = [128 + 100 * np.sin(x / draw.uniform(3, 40)) * np.cos(y / draw.uniform(3, 40)) for _ in range(channels)]
    return Image.merge(mode, [Image.fromarray(plane.astype(np.uint8)) for plane in planes])


def write_random(folder, count):
    draw = random.Random(0)
    for number in range(count):
        picture = random_picture(draw)
        options = {
            "quality": draw.randint(1, 100),
            "progressive": draw.random() < 0.3,
            "optimize": draw.random() < 0.3,
        }
        if picture.mode == "RGB" and draw.random() < 0.1:
            options["keep_rgb"] = True
        elif picture.mode == "RGB":
            options["subsampling"] = draw.choice(["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
        if draw.random() < 0.3:
            options[draw.choice(["restart_marker_blocks", "restart_marker_rows"])] = draw.randint(1, 9)
        # Pillow's memory for a small picture of high quality is too little when it optimises.
        ImageFile.MAXBLOCK = 1 << 22
        picture.save(folder / f"{number:04}.jpg", **options)


def expected(path):
    """What Pillow reads, and what libjpeg says against it; None if Pillow refuses the file."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception:
        return None, ""
    warning = ""
    if simplejpeg:
        try:
            simplejpeg.decode_jpeg(path.read_bytes(), strict=True)
        except Exception as error:
            warning = str(error)
    return pixels, warning


def found(stream):
    """The next file's pixels, or the reason why there are none."""
    word, _, rest = stream.readline().decode().strip().partition(" ")
    if word != "ok":
        return None, rest or "the program ended"
    width, height = map(int, rest.split())
    return np.frombuffer(stream.read(3 * width * height), np.uint8).reshape(height, width, 3), ""


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("decoder")
    arguments.add_argument("--random", type=int, default=1000)
    arguments.add_argument("folders", nargs="*", type=Path)
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        write_random(Path(temporary), arguments.random)
        endings = {".jpg", ".jpeg", ".jpe", ".jfif"}
        folders = [Path(temporary), *arguments.folders]
        paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in endings)
        listing = Path(temporary) / "paths"
        listing.write_text("".join(f"{path}\n" for path in paths))
        with listing.open() as stdin, subprocess.Popen([arguments.decoder], stdin=stdin, stdout=subprocess.PIPE) as run:
            outcomes = [outcome(path, *found(run.stdout), *expected(path)) for path in paths]
    for kind in sorted(set(outcomes)):
        print(f"{kind}: {outcomes.count(kind)}")
    return 1 if {"wrong", "refused"} & set(outcomes) else 0


def outcome(path, ours, reason, theirs, warning):
    if theirs is None:
        return "refused by Pillow"
    if ours is None:
        if warning:
            return "refused, and libjpeg warns"
        print(f"refused: {path}: {reason}")
        return "refused"
    if ours.shape != theirs.shape:
        print(f"wrong: {path}: {ours.shape}, expected {theirs.shape}")
        return "wrong"
    difference = np.abs(ours.astype(int) - theirs).mean()
    if difference > LARGEST_MEAN_DIFFERENCE:
        print(f"wrong: {path}: {difference:.1f} levels apart on average")
        return "wrong"
    return "equal" if difference == 0 else "within two levels"


sys.exit(main())
