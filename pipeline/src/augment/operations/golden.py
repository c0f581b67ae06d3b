"""Writes golden.json: what torchvision's transforms v2 make of a small image, for the tests of the operations.

    pip install torch torchvision && python golden.py
"""

import json
import math
import pathlib

import torch
import torchvision
from torchvision.transforms.v2 import RandAugment, TrivialAugmentWide
from torchvision.transforms.v2 import functional as F

HEIGHT, WIDTH = 9, 11


def picture(height, width):
    """Slopes of different steepness with some noise, u8 [3,H,W]; the same as in tests.rs."""
    index = torch.arange(3 * height * width)
    channel, y, x = index // (height * width), index // width % height, index % width
    values = 20 + 50 * channel + (9 - 3 * channel) * x + (2 + 4 * channel) * y + index * index % 23
    return values.to(torch.uint8).reshape(3, height, width)


image = picture(HEIGHT, WIDTH)

cases = {
    "grayscale": F.rgb_to_grayscale(image, 3),
    "brightness 1.4": F.adjust_brightness(image, 1.4),
    "brightness 0.3": F.adjust_brightness(image, 0.3),
    "contrast 1.7": F.adjust_contrast(image, 1.7),
    "contrast 0.25": F.adjust_contrast(image, 0.25),
    "saturation 1.9": F.adjust_saturation(image, 1.9),
    "saturation 0.2": F.adjust_saturation(image, 0.2),
    "hue 0.1": F.adjust_hue(image, 0.1),
    "hue 0.37": F.adjust_hue(image, 0.37),
    "hue -0.5": F.adjust_hue(image, -0.5),
    "gaussian_blur 3 0.6": F.gaussian_blur(image, 3, 0.6),
    "gaussian_blur 9 1.7": F.gaussian_blur(image, 9, 1.7),
    "gaussian_blur 15 5": F.gaussian_blur(image, 15, 5.0),
    "vertical_flip": F.vertical_flip(image),
    # Smaller images are left as they are.
    "equalize": F.equalize(picture(18, 19)),
}
spaces = {"rand": RandAugment._AUGMENTATION_SPACE, "wide": TrivialAugmentWide._AUGMENTATION_SPACE}
policy, magnitudes = TrivialAugmentWide(), {}
for space, operations in spaces.items():
    for operation, (of, signed) in operations.items():
        all_of = of(31, HEIGHT, WIDTH)
        for bin in (0, 3, 17, 30):
            magnitude = 0.0 if all_of is None else float(all_of[bin])
            magnitudes[f"{space} {operation} {bin}"] = magnitude
            weaker = 3 if operation.startswith("Translate") else 17
            if space == "rand" or bin not in (weaker, 30):
                continue
            for sign in (1, -1) if signed else (1,):
                # The same everywhere but where pixels are moved to places between others.
                for mode in ("nearest", "bilinear") if operation.startswith(("Shear", "Rotate")) else ("nearest",):
                    result = policy._apply_image_or_video_transform(
                        image, operation, sign * magnitude, mode, policy._fill
                    )
                    # A threshold is a part of the largest value there, here a value.
                    unit = 255 if operation == "Solarize" else 1
                    cases[f"{operation} {unit * sign * magnitude} {mode}"] = result

out = {"made by": f"golden.py, torchvision {torchvision.__version__}", "magnitudes": magnitudes}
out["cases"] = {name: bytes(result.flatten().tolist()).hex() for name, result in cases.items()}
assert all(math.isfinite(value) for value in magnitudes.values())
pathlib.Path(__file__).with_name("golden.json").write_text(json.dumps(out, indent=0) + "\n")
