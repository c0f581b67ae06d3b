"""Packs what gpu_check.sh needs on a machine with a GPU, without Rust and network: see there.

    trainer/benches/gpu_check.sh pack FOLDER [--arch 90] [--piece-mb 60] [--all-kernels]

Builds `trainer` and the tests, fetches ONNX Runtime for CUDA, the version that Fovea pins, and MPICH from PyPI. Of the
GPU code in ONNX Runtime only that for one architecture is kept (90 for the H100 and H200), and by default none of
kernels that no GPU before architecture 80 has: attention and mixtures of experts, which no graph of Fovea uses. NVIDIA's
libraries are those of PyTorch there.
"""

import argparse
import collections
import hashlib
import json
import lzma
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
MANIFEST = SOURCE / "trainer/runtime/src/manifest.rs"
TESTS = {"fovea_graph", "fovea_trainer", "golden"}
# What tests read at run time.
READ = ["trainer/graph/tests/golden", "trainer/recipes"]
# All kernels for training have code for this architecture, the oldest that ONNX Runtime is built for.
OLDEST = 75
# Length of a container's header.
CONTAINER = 16


def build(folder):
    """The binary and the tests, without symbols."""
    found = {}
    for command in (
        ["build", "--release", "--bin", "trainer"],
        ["test", "--no-run", "-p", "fovea-graph", "-p", "fovea-trainer", "--lib", "--test", "golden"],
    ):
        cargo = ["cargo", *command, "--message-format=json-render-diagnostics"]
        made = subprocess.run(cargo, cwd=SOURCE, check=True, stdout=subprocess.PIPE, text=True).stdout
        for message in map(json.loads, made.splitlines()):
            if message.get("executable"):
                found[message["target"]["name"]] = message["executable"]
    if set(found) != TESTS | {"trainer"}:
        sys.exit(f"error: cargo made {sorted(found)}, expected {sorted(TESTS | {'trainer'})}")
    (folder / "tests").mkdir(parents=True)
    for name, program in found.items():
        to = folder / name if name == "trainer" else folder / "tests" / name
        subprocess.run(["strip", "-o", to, program], check=True)


def wheel(folder, name, *options):
    """Fetches a wheel."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, "--dest", folder, *options, name], check=True)
    (file,) = folder.glob(f"{name.split('=')[0].replace('-', '_')}-*.whl")
    return file


def libraries(wheels, folder, arch, all_kernels):
    """ONNX Runtime and its provider for CUDA."""
    pinned = re.search(r'file: "(onnxruntime_gpu-([\d.]+)-cp(\d+)-cp\d+-(\w+)_x86_64\.whl)",\s*sha256: "(\w+)"',
                       MANIFEST.read_text())
    name, version, python, platform, sha256 = pinned.groups()
    options = ["--python-version", python, "--implementation", "cp", "--platform", f"{platform}_x86_64"]
    file = wheel(wheels, f"onnxruntime-gpu=={version}", *options)
    if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        sys.exit(f"error: {file.name} from the package index is not the one in {MANIFEST}")
    folder.mkdir()
    with zipfile.ZipFile(file) as archive:
        for entry in archive.namelist():
            kept = re.fullmatch(r"onnxruntime/capi/(libonnxruntime(?:_providers_(?:cuda|shared))?\.so)(\.[\d.]+)?", entry)
            if kept:
                (folder / kept[1]).write_bytes(archive.read(entry))
    provider = folder / "libonnxruntime_providers_cuda.so"
    code, left = for_one_architecture(bytearray(provider.read_bytes()), arch, all_kernels)
    provider.write_bytes(code)
    print(f"{left / 1e6:8.1f} MB  of GPU code, for architecture {arch}")


def containers(library):
    """The GPU code of a library: start and length of each container, and its entries: architecture, start, length.

    A container is magic, version u16, length of the header u16, length of the entries u64; an entry is kind u16,
    version u16, length of its header u32, length of its code u64, …, architecture u32 at 28.
    """
    at = 0
    while (at := library.find(struct.pack("<IHH", 0xBA55ED50, 1, CONTAINER), at)) >= 0:
        (length,) = struct.unpack_from("<Q", library, at + 8)
        entry, end, entries = at + CONTAINER, at + CONTAINER + length, []
        while entry + 32 <= end <= len(library):
            header, code = struct.unpack_from("<IQ", library, entry + 4)
            entries.append((*struct.unpack_from("<I", library, entry + 28), entry, header + code))
            entry += header + code
        if entry == end:
            yield at, length, entries
            at = end
        else:
            # The same bytes by chance.
            at += 4


def for_one_architecture(library, arch, all_kernels):
    """The library with zeros in place of the other GPU code; the number of bytes of the code that is left."""
    found = list(containers(library))
    every = [entry for *_, entries in found for entry in entries]
    small = min((entry for entry in every if entry[0] <= OLDEST), key=lambda entry: entry[2], default=None)
    if small is None or not any(entry[0] == arch for entry in every):
        sys.exit(f"error: ONNX Runtime has no code for architecture {arch}, or in a format that is not known")
    # A container that nothing is left of gets code for an old GPU, so that it is whole.
    filler, left = library[small[1] : small[1] + small[2]], 0
    for at, length, entries in found:
        is_needed = all_kernels or any(entry[0] <= OLDEST for entry in entries)
        kept = b"".join(library[at : at + size] for of, at, size in entries if of == arch and is_needed)
        left += len(kept)
        kept = kept or filler
        if len(kept) > length:
            sys.exit(f"error: the GPU code at {at} of ONNX Runtime is smaller than any for architecture {OLDEST}")
        library[at + CONTAINER : at + CONTAINER + length] = kept.ljust(length, b"\0")
        struct.pack_into("<Q", library, at + 8, len(kept))
    return bytes(library), left


def mpi(wheels, folder):
    """MPICH: pip would leave out its libraries."""
    with zipfile.ZipFile(wheel(wheels, "mpich")) as archive:
        for entry in archive.infolist():
            inside = re.search(r"\.data/data/((?:bin|lib)/.+)", entry.filename)
            if inside and not entry.is_dir():
                to = folder / inside[1]
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(archive.read(entry))
                to.chmod(0o755)


def size(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where the archives are written")
    parser.add_argument("--arch", type=int, default=90, help="of the GPU; default: 90")
    parser.add_argument("--all-kernels", action="store_true", help="keep the kernels of attention as well")
    parser.add_argument("--piece-mb", type=float, default=60, help="largest size of an archive; default: 60")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        root, wheels = temporary / "root", temporary / "wheels"
        wheels.mkdir()
        build(root / "bin")
        libraries(wheels, root / "lib", options.arch, options.all_kernels)
        mpi(wheels, root / "mpi")
        for path in READ:
            shutil.copytree(SOURCE / path, root / "source" / path)
        benches = [file for file in (SOURCE / "trainer/benches").iterdir() if file.suffix in (".py", ".cu")]
        (root / "benches").mkdir()
        for file in benches:
            shutil.copy(file, root / "benches")
        (root / "built-in").write_text(f"{SOURCE}\n")
        for path in sorted(root.glob("*/*")):
            print(f"{size(path) / 1e6:8.1f} MB  {path.relative_to(root)}")
        whole = temporary / "carried.tar.xz"
        smallest = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
        with lzma.open(whole, "wb", filters=smallest) as out, tarfile.open(fileobj=out, mode="w|") as archive:
            for path in sorted(root.iterdir()):
                archive.add(path, path.name)
        for old in options.folder.glob("carried.tar.xz.*"):
            old.unlink()
        with whole.open("rb") as compressed:
            for number in range(100):
                piece = compressed.read(int(options.piece_mb * 1e6))
                if not piece:
                    break
                to = options.folder / f"carried.tar.xz.{number:02}"
                to.write_bytes(piece)
                print(f"{len(piece) / 1e6:8.1f} MB  {to}")
    shutil.copy(SOURCE / "trainer/benches/gpu_check.sh", options.folder)


if __name__ == "__main__":
    main()
