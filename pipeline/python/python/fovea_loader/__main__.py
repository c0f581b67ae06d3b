"""`python -m fovea_loader prepare|inspect|verify`: shards from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from . import DataError, inspect, prepare, report_bus_errors, verify

# Exit codes.
DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fovea_loader",
        description="Makes shards for training out of photos, and examines them.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    making = commands.add_parser("prepare", help="make shards of photos", description=prepare.__doc__.splitlines()[0])
    making.add_argument("--train", metavar="PATH", help="training images, or a data set with both splits")
    making.add_argument("--val", metavar="PATH", help="validation images")
    making.add_argument("--devkit", metavar="PATH", help="development kit of ILSVRC: classes and validation labels")
    making.add_argument("--labels", metavar="FILE", help="labels of the photos in --train, a CSV file")
    making.add_argument("--out", metavar="DIR|URL", required=True, help="folder to write to, or s3://, gs:// or az://")
    making.add_argument("--work", metavar="DIR", help="folder to prepare in before an upload, which stays")
    making.add_argument("--size", type=int, default=256, metavar="PIXELS", help="side of the images [default: 256]")
    making.add_argument("--encoding", default="raw", help="raw or jpeg [default: raw]")
    making.add_argument("--quality", type=int, default=90, help="of JPEG, 1 to 100 [default: 90]")
    making.add_argument("--orientation", default="ignore", help="of EXIF data: ignore or apply [default: ignore]")
    making.add_argument(
        "--resize", "--shape", default="short-side", help="short-side, squash, or keep: whole photos [default: short-side]"
    )
    making.add_argument("--filter", default="lanczos3", help="lanczos3, bicubic or bilinear [default: lanczos3]")
    making.add_argument("--seed", type=int, default=0, help="of the order of the training images [default: 0]")
    making.add_argument("--shard-bytes", type=int, default=256 << 20, metavar="BYTES", help="[default: 268435456]")
    making.add_argument("--limit-per-class", type=int, metavar="K", help="take only K images of each class and split")
    making.add_argument("--layout", default="auto", help="auto, classes, splits or a layout's name [default: auto]")
    making.add_argument("--workers", type=int, metavar="N", help="threads [default: number of cores]")
    making.add_argument("--update", action="store_true", help="prepare again if images have changed")
    making.add_argument("--embedded-sample", action="store_true", help="prepare the small data set in the package")

    for name, does in (("inspect", "print what a data set holds"), ("verify", "read every byte of a data set again")):
        looking = commands.add_parser(name, help=does, description=does[0].upper() + does[1:] + ".")
        looking.add_argument("path", metavar="DIR|URL", help="folder of the data set, or its URL")
        looking.add_argument("--cache", metavar="DIR", help="folder that keeps what is fetched from a URL")
        looking.add_argument("--cache-limit", metavar="BYTES", help="most bytes of shards in it, as in 100GB")
        looking.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def show_progress(done: int, total: int, rejected: int) -> None:
    if sys.stderr.isatty():
        also = f" ({rejected} rejected)" if rejected else ""
        print(f"\r{done} of {total} images{also}", end="", file=sys.stderr, flush=True)


def describe(info: dict[str, Any]) -> str:
    side, is_square = info["image_size"], info.get("image_shape", "square") == "square"
    pixels = f"{side}x{side} pixels" if is_square else f"whole photos, shorter side {side} pixels"
    lines = [
        f"  source      {info['source']}",
        f"  images      {pixels}, {info['encoding']}",
        f"  {'numbers' if info.get('labels') == 'values' else 'classes':<12}{len(info['classes'])}",
    ]
    for split in ("train", "val"):
        shards = info[split]
        images, size = sum(shard["images"] for shard in shards), sum(shard["bytes"] for shard in shards)
        lines.append(f"  {split:<12}{images} images in {len(shards)} shards, {size / 1e6:.1f} MB")
    if info["statistics"]:
        lines.append("  mean RGB    " + " ".join(f"{value:.4f}" for value in info["statistics"]["mean"]))
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    given = vars(options)
    command = given.pop("command")
    if command == "prepare":
        summary = prepare(**given, progress=show_progress)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        print(summary["directory"])
        print(describe(summary["info"]))
        if summary["uploaded"]:
            sent, kept = summary["uploaded"]["files"], summary["uploaded"]["skipped"]
            print(f"  uploaded    {sent} files to {summary['uploaded']['url']}, {kept} were there already")
        if summary["rejected"]:
            print(f"  rejected    {summary['rejected']} images, see {summary['directory']}/rejected.tsv")
        for note in summary["notes"]:
            print(f"  note        {note['path']}: {note['message']}")
        return DONE
    elsewhere = {"cache": options.cache, "cache_limit": options.cache_limit}
    if command == "inspect":
        found = inspect(options.path, **elsewhere)
        print(json.dumps(found) if options.json else f"{options.path}\n{describe(found['info'])}")
        return DONE
    report = verify(options.path, **elsewhere)
    if options.json:
        print(json.dumps(report))
    else:
        for problem in report["problems"]:
            print(f"{problem['path']}: {problem['problem']}")
        verdict = f"{len(report['problems'])} problems" if report["problems"] else "all is well"
        print(f"{options.path}: {report['images']} images in {report['shards']} shards, {verdict}")
    return FAILED if report["problems"] else DONE


def main() -> int:
    report_bus_errors()
    try:
        return run(parser().parse_args())
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on with what is missing", file=sys.stderr)
        return INTERRUPTED
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except (ValueError, OverflowError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
