"""Everything that only a GPU can show, in one run of a few minutes: see gpu_check.sh, which starts this.

Prints one JSON object a line: {"part", "seconds", "exit", "figures"}, or "error" with the last lines of a part that
failed in place of the figures, or "skipped" with the reason. The same lines go to OUT/gpu_check.jsonl, and what the
parts print to OUT/gpu_check.log. Parts are in the order of their worth; one that fails or takes too long does not stop
the others. What is not timed, tests and compilation by torch.compile, runs side by side. The exit code is 0 if all parts
passed, 1 if not.
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import typing

BENCHES = pathlib.Path(__file__).parent
PRECISIONS = ("tf32", "f16", "f32")
# Test binaries: filters, and those of a quick check. One test of golden takes as long as all others.
TESTS = {
    "fovea_trainer": (["backend::", "models::", "optimizer::"], ["optimizer::"]),
    "golden": (["the_"], ["the_forms"]),
    "fovea_graph": ([], ["ops::lrn"]),
}
# Tests that compile a fake of the driver by rustc.
FAKED = "fetching"
NETWORKS = (("resnet18", "tf32"), ("vit_small", "tf32"), ("resnet18", "f16"))
# Lines of a failed part that are printed.
LAST = 12


@dataclasses.dataclass
class Part:
    name: str
    command: list
    limit_s: float
    # From what the part prints to stdout.
    figures: typing.Callable = lambda printed: json.loads(printed)
    is_timed: bool = True
    environment: dict = dataclasses.field(default_factory=dict)
    # Why it is not run here.
    skipped: str | None = None
    # The part whose files it reads.
    needs: str | None = None


class Sizes:
    """How large and how often."""

    def __init__(self, quick):
        self.batch = 4 if quick else 128
        self.steps = 3 if quick else 40
        self.images = 4 if quick else 64
        self.px = 64 if quick else 224
        self.batches = ["--limit-batches", "3"] if quick else []


def steps_of(found):
    """The figures of `trainer bench --json`; the first step allocates memory and searches for algorithms."""
    ms = [1000 * s for s in found["step_s"][1:]]
    figures = {"median_ms": statistics.median(ms), "least_ms": min(ms), "first_ms": 1000 * found["step_s"][0]}
    figures = {key: round(value, 3) for key, value in figures.items()}
    return figures | {"start_s": round(found["startup_s"], 2), "losses": found["losses"][:3] + found["losses"][-1:]}


def tests_of(printed):
    """The figures of a test binary, also of one that was ended."""
    results = re.findall(r"^test (\S+) .*?\.\.\. (ok|FAILED|ignored)", printed, re.M)
    if not results:
        raise ValueError("no test ran")
    of = lambda kind: [name for name, result in results if result == kind]
    return {"passed": len(of("ok")), "ignored": len(of("ignored")), "failed": of("FAILED")}


def last_object(printed):
    """The last line that is JSON."""
    return json.loads(printed.strip().splitlines()[-1])


def lines_of(printed):
    """All lines, each JSON."""
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def kernels_of(printed):
    """The kernels of one step, from ncu's table of all launches: the longest sequence that follows itself."""
    rows = list(csv.reader(line for line in printed.splitlines() if line.startswith('"')))
    head, rows = rows[0], [row for row in rows[1:] if row[0]]
    column = {name: head.index(name) for name in ("Kernel Name", "gpu__time_duration.sum", "dram__bytes.sum")}
    names = [row[column["Kernel Name"]] for row in rows]
    start, period = longest_repeat(names)
    step = rows[start : start + period]
    total = {}
    for row in step:
        ns, size = (float(row[column[key]].replace(",", "") or 0) for key in list(column)[1:])
        sums = total.setdefault(row[column["Kernel Name"]][:100], [0, 0.0, 0.0])
        sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + ns / 1e6, sums[2] + size / 1e6
    order = sorted(total.items(), key=lambda item: -item[1][1])
    kernels = [{"kernel": name, "launches": n, "ms": round(ms, 4), "mb": round(mb, 2)} for name, (n, ms, mb) in order]
    return {"launches": period, "ms": round(sum(k["ms"] for k in kernels), 3), "kernels": kernels[:40]}


def longest_repeat(names):
    """Start and length of the longest sequence that is followed by the same sequence."""
    for period in range(len(names) // 2, 0, -1):
        run = 0
        for at in range(len(names) - period):
            run = run + 1 if names[at] == names[at + period] else 0
            if run == period:
                return at - period + 1, period
    return 0, len(names)


def parts(options, work, carried):
    """All parts, in the order of their worth."""
    device, size = ["--device", options.device], Sizes(options.quick)
    trainer, python, cuda = carried / "bin/trainer", sys.executable, options.device.startswith("cuda")
    steps = ["--steps", size.steps]
    bench = [trainer, "bench", *device, "--json", "--batch-size", size.batch]
    run, plain = work / "run", work / "run-plain"
    photo = work / "photo.ppm"
    photo.write_bytes(b"P6 32 32 255\n" + bytes(at * 7919 % 256 for at in range(32 * 32 * 3)))
    train = [trainer, *device, "--epochs", "2", *size.batches, "--json"]

    yield Part("machine", [python, BENCHES / "gpu_check.py", "--about"], 90)
    yield Part("train", [*train, "--run", run], 90)
    yield Part("train, no copies ahead", [*train, "--no-copy-ahead", "--run", plain], 60)
    yield Part("evaluate", [trainer, "evaluate", run, *device, "--json"], 40, needs="train")
    yield Part("predict", [trainer, "predict", run, photo, *device, "--json"], 40, needs="train")

    timed = lambda printed: steps_of(json.loads(printed))
    switches = {
        "": [],
        ", no copies ahead": ["--no-copy-ahead"],
        ", own kernels": ["--no-copy-ahead", "--own-cuda-kernels"],
        ", no CUDA graph": ["--no-copy-ahead", "--no-cuda-graph"],
    }
    for precision in PRECISIONS:
        for name, switch in switches.items():
            command = [*bench, *steps, "--precision", precision, *switch]
            yield Part(f"step {precision}{name}", command, 40, timed)

    # Compiled once, so that the measurements below find it in the cache.
    alexnet = [python, BENCHES / "compare_pytorch.py", *device, "--batch", size.batch, *steps, "--json"]
    network = [python, BENCHES / "compare_networks.py", "--folder", work / "nets", *device, "--batch", size.images]
    network += ["--px", size.px, *steps, "--rounds", "1", "--json"]
    nothing = lambda printed: {}
    few = {"TORCHINDUCTOR_COMPILE_THREADS": "2"}
    for precision in PRECISIONS:
        command = [*alexnet, "--precision", precision, "--warm-up", "--steps", "2"]
        yield Part(f"compile alexnet {precision}", command, 150, nothing, False, few)
    for name, precision in NETWORKS:
        command = [*network, name, "--precision", precision, "--warm-up", "--steps", "2"]
        yield Part(f"compile {name} {precision}", command, 150, nothing, False, few)
    for name, filters in TESTS.items():
        yield tests_part(options, carried, name, filters[options.quick])

    for precision in PRECISIONS[:2]:
        command = [*alexnet, "--precision", precision, "--compile"]
        yield Part(f"alexnet {precision} against PyTorch", command, 90, last_object)
    small = ["--quick"] if options.quick else []
    yield Part("pieces", [python, BENCHES / "probe_pieces.py", *device, *small], 100, lines_of)
    ranks = [*bench, "--ranks", "2", "--precision", "tf32", "--steps", min(size.steps, 10)]
    yield Part("2 processes, bench", ranks, 60)
    launched = [trainer, "launch", "--ranks", "2", *train[1:], "--run", work / "run-ranks"]
    yield Part("2 processes, train", launched, 60)
    if cuda:
        # Of PyTorch's libraries; two processes on one GPU are something that it must be told.
        nccl = {"FOVEA_NCCL": "libnccl.so.2", "NCCL_MULTI_RANK_GPU_ENABLE": "1"}
        nccl |= {"NCCL_NVLS_ENABLE": "0", "NCCL_MAX_CTAS": "1"}
        yield Part("2 processes by NCCL, bench", [*ranks, "--collective", "nccl"], 60, environment=nccl)
        launched = [*launched[:-1], work / "run-nccl", "--collective", "nccl"]
        yield Part("2 processes by NCCL, train", launched, 60, environment=nccl)
    yield kernels_part(cuda, [*bench, *switches[", no CUDA graph"], "--precision", "tf32", "--steps", "3"])
    yield Part("alexnet f32 against PyTorch", [*alexnet, "--precision", "f32", "--compile"], 90, last_object)
    for name, precision in NETWORKS:
        command = [*network, name, "--precision", precision, "--compile"]
        yield Part(f"{name} {precision} against PyTorch", command, 90, last_object)
    check = [*alexnet, "--precision", "f32", "--check", "--steps", min(size.steps, 12)]
    yield Part("losses against PyTorch", check, 60, last_object)
    data = work / "cache/datasets/embedded-sample-28"
    loader = [trainer, "bench", *device, "--recipe", "demo", "--data", data, "--json", *steps]
    yield Part("loader", loader, 40, needs="train")
    yield tests_part(options, carried, "golden", ["alexnet_follows"])


def tests_part(options, carried, name, filters):
    command = [carried / "bin/tests" / name, "--test-threads", "1", *filters]
    if not shutil.which("rustc"):
        command += ["--skip", FAKED]
    on_device = {"FOVEA_TEST_DEVICE": options.device}
    return Part(f"tests of {name}, {filters[0] if filters else 'all'}", command, 150, tests_of, False, on_device)


def kernels_part(cuda, bench):
    name = "kernels of a step"
    ncu = shutil.which("ncu")
    if not (cuda and ncu):
        return Part(name, [], 0, skipped="ncu is not there" if cuda else "not on a GPU")
    metrics = ["--metrics", "gpu__time_duration.sum,dram__bytes.sum", "--print-units", "base"]
    command = [ncu, "--csv", "--page", "raw", "--clock-control", "none", *metrics, *bench]
    return Part(name, command, 90, kernels_of)


def about():
    """The machine, its driver and the versions of libraries."""
    import torch

    found = {"python": sys.version.split()[0], "torch": torch.__version__, "cores": os.cpu_count()}
    if torch.cuda.is_available():
        found |= {"gpu": torch.cuda.get_device_name(), "cudnn": torch.backends.cudnn.version()}
        query = ["nvidia-smi", "--query-gpu=driver_version,memory.total,clocks.sm", "--format=csv,noheader"]
        found["nvidia_smi"] = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    print(json.dumps(found))


class Runner:
    def __init__(self, options):
        self.until, self.patience = time.monotonic() + 60 * options.minutes, options.patience
        self.log = (options.out / "gpu_check.log").open("w")
        self.results = (options.out / "gpu_check.jsonl").open("w")
        self.lock = threading.Lock()
        self.running = set()
        self.failed = []

    def say(self, result, printed=""):
        line = json.dumps(result)
        with self.lock:
            print(line, flush=True)
            print(line, file=self.results, flush=True)
            print(f"=== {result['part']}\n{printed}", file=self.log, flush=True)
            if result.get("exit") or "error" in result or result.get("skipped") == "no time is left":
                self.failed.append(result["part"])

    def run(self, part):
        left = self.until - time.monotonic()
        if part.skipped or left < 5:
            self.say({"part": part.name, "skipped": part.skipped or "no time is left"})
            return
        started, limit = time.monotonic(), min(self.patience * part.limit_s, left)
        command = [str(word) for word in part.command]
        result, printed, errors = {"part": part.name}, "", ""
        try:
            child = subprocess.Popen(
                command, env=os.environ | part.environment, text=True, errors="replace", start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        except OSError as error:
            self.say(result | {"error": [str(error)]})
            return
        self.running.add(child)
        try:
            printed, errors = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            end(child)
            printed, errors = child.communicate()
            errors += f"\nended after {limit:.0f} s"
        self.running.discard(child)
        result |= {"seconds": round(time.monotonic() - started, 1), "exit": child.returncode}
        try:
            result["figures"] = part.figures(printed)
        except (ValueError, LookupError, TypeError) as error:
            if child.returncode == 0:
                result["error"] = [f"what it printed has no figures: {error!r}"]
        if child.returncode != 0:
            result["error"] = (printed + errors).strip().splitlines()[-LAST:]
        self.say(result, f"$ {' '.join(command)}\n{printed}{errors}")

    def run_all(self, all_parts):
        """One after the other; neighbours that are not timed at once."""
        together = []

        def finish():
            with concurrent.futures.ThreadPoolExecutor(len(together) or 1) as pool:
                list(pool.map(self.run, together))
            together.clear()

        for part in all_parts:
            if not part.is_timed:
                together.append(part)
                continue
            finish()
            self.run(part)
        finish()

    def stop(self, number, _):
        """Ends what runs, at Ctrl-C or SIGTERM."""
        for child in list(self.running):
            end(child)
        sys.exit(128 + number)


def end(child):
    """Ends a part and the processes that it has started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carried", type=pathlib.Path, help="folder that gpu_check.sh has unpacked")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu; default: cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the check itself")
    parser.add_argument("--only", metavar="TEXT", action="append", help="only parts with this in their name; can be repeated")
    parser.add_argument("--minutes", type=float, default=8, help="no part is begun or goes on after; default: 8")
    parser.add_argument("--patience", type=float, default=1, help="factor of the parts' own limits; default: 1")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-check"), help="results; default: gpu-check")
    parser.add_argument("--list", action="store_true", help="print the names of the parts")
    parser.add_argument("--about", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.about:
        return about()
    if options.carried is None:
        parser.error("--carried is missing; start gpu_check.sh instead")
    options.out.mkdir(parents=True, exist_ok=True)
    work = (options.out / "work").absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    os.environ |= {
        "FOVEA_CACHE": str(work / "cache"), "FOVEA_OFFLINE": "1", "TRAINER": str(options.carried / "bin/trainer"),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"), "PYTHONUNBUFFERED": "1",
    }
    every = list(parts(options, work, options.carried.absolute()))
    chosen = [part for part in every if not options.only or any(text in part.name for text in options.only)]
    needed = {part.needs for part in chosen}
    chosen = [part for part in every if part in chosen or part.name in needed]
    if options.list:
        print("\n".join(part.name for part in chosen))
        return 0
    if not chosen:
        parser.error("no part has such a name; --list prints them")
    runner, started = Runner(options), time.monotonic()
    signal.signal(signal.SIGINT, runner.stop)
    signal.signal(signal.SIGTERM, runner.stop)
    runner.run_all(chosen)
    shutil.rmtree(work, ignore_errors=True)
    runner.say({"part": "all", "seconds": round(time.monotonic() - started, 1), "parts": len(chosen),
                "failed": list(runner.failed)})
    return int(bool(runner.failed))


if __name__ == "__main__":
    sys.exit(main())
