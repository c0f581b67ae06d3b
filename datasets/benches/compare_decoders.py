"""Compares the pixels of `decode_photos` with those of Pillow.

    cargo build --example decode_photos
    python datasets/benches/compare_decoders.py target/debug/examples/decode_photos [--random N] [FOLDER...]

Looks at all image files below the folders, and at N random ones (1000 by default), of which half are JPEG files and
the others PNG, WebP, GIF, BMP, TIFF and PNM files of every kind. A file that Pillow reads must be read to its pixels:
JPEG and WebP within two levels on average, the others within one level everywhere. What differs or is refused is
listed, and the exit code is 1. Where `simplejpeg` is installed, files of which libjpeg warns may be refused.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from pictures import WRITERS

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

ENDINGS = {f".{ending}" for ending in "jpg jpeg jpe jfif png webp gif bmp tif tiff pbm pgm ppm pnm".split()}
LARGEST_MEAN_DIFFERENCE = 2.0
ORIENTATION = 274


def write_random(folder, count):
    draw = random.Random(0)
    others = [ending for ending in WRITERS if ending != "jpg"]
    for number in range(count):
        ending = "jpg" if number % 2 else others[number // 2 % len(others)]
        (folder / f"{number:04}.{ending}").write_bytes(WRITERS[ending](draw))


def expected(path):
    """What Pillow reads, and what libjpeg says against it; None if Pillow refuses the file."""
    try:
        with Image.open(path) as image:
            lossy = image.format in ("JPEG", "MPO", "WEBP") or image.info.get("compression") in ("jpeg", "tiff_jpeg")
            if image.format == "TIFF" and image.tag_v2.get(ORIENTATION, 1) != 1:
                return None, False, ""  # Pillow turns TIFF files always.
            pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
    except Exception:
        return None, False, ""
    if pixels.ndim == 2:
        # Pillow drops the lower bits, or has 65535 for the brightest grey.
        pixels = np.repeat((pixels.astype(int)[:, :, None] * 255 + 32767) // 65535, 3, 2)
    warning = ""
    if simplejpeg and path.suffix.lower().startswith(".j"):
        try:
            simplejpeg.decode_jpeg(path.read_bytes(), strict=True)
        except Exception as error:
            warning = str(error)
    return pixels, lossy, warning


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
    arguments = arguments.parse_intermixed_args()
    warnings.simplefilter("ignore", UserWarning)
    with tempfile.TemporaryDirectory() as temporary:
        write_random(Path(temporary), arguments.random)
        folders = [Path(temporary), *arguments.folders]
        paths = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
        listing = Path(temporary) / "paths"
        listing.write_text("".join(f"{path}\n" for path in paths))
        with listing.open() as stdin, subprocess.Popen([arguments.decoder], stdin=stdin, stdout=subprocess.PIPE) as run:
            outcomes = [outcome(path, *found(run.stdout), *expected(path)) for path in paths]
    for kind in sorted(set(outcomes)):
        print(f"{kind}: {outcomes.count(kind)}")
    return 1 if {"wrong", "refused"} & set(outcomes) else 0


def outcome(path, ours, reason, theirs, lossy, warning):
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
    differences = np.abs(ours.astype(int) - theirs)
    if differences.max() > 1 and not (lossy and differences.mean() <= LARGEST_MEAN_DIFFERENCE):
        print(f"wrong: {path}: {differences.mean():.1f} levels apart on average, {differences.max()} at most")
        return "wrong"
    if differences.max() == 0:
        return "equal"
    return "within two levels on average" if lossy else "within one level"


sys.exit(main())
