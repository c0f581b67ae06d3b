"""Compiles kernels.cu to cubins, one for each architecture. Needs no GPU; NVIDIA's compiler is a wheel:

    pip install nvidia-cuda-nvrtc==13.0.88
    python build.py [--check]

`--check` compares with the cubins that are there, and changes nothing. A cubin runs on GPUs of its major architecture
and of the same or a later minor one. The version is that of the oldest driver that Fovea takes.
"""

import argparse
import ctypes
import glob
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent
# Ampere and Ada; Hopper; Blackwell; consumer Blackwell.
ARCHITECTURES = (80, 90, 100, 120)


def library():
    for path in sys.path:
        for file in glob.glob(f"{path}/nvidia/*/lib/libnvrtc.so.13"):
            # The compiler finds it when it is loaded.
            ctypes.CDLL(str(pathlib.Path(file).with_name("libnvrtc-builtins.so.13.0")))
            return ctypes.CDLL(file)
    sys.exit("error: NVRTC is not installed: pip install nvidia-cuda-nvrtc==13.0.88")


def compiled(nvrtc, source, architecture):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()

    def call(name, *arguments):
        code = getattr(nvrtc, name)(*arguments)
        if code == 0:
            return
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        sys.exit(f"error: {name} returned {code}\n{log.value.decode()}")

    call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture=sm_{architecture}".encode(), b"--std=c++17"]
    call("nvrtcCompileProgram", program, len(options), (ctypes.c_char_p * len(options))(*options))
    call("nvrtcGetCUBINSize", program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    call("nvrtcGetCUBIN", program, code)
    return code.raw


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, and change nothing")
    options = parser.parse_args()
    nvrtc, source = library(), (FOLDER / "kernels.cu").read_text()
    for architecture in ARCHITECTURES:
        file, code = FOLDER / f"sm_{architecture}.cubin", compiled(nvrtc, source, architecture)
        if not options.check:
            file.write_bytes(code)
            print(f"{len(code):8} bytes  {file.name}")
        elif not file.exists() or file.read_bytes() != code:
            sys.exit(f"error: {file} is not what kernels.cu compiles to: run {__file__}")


if __name__ == "__main__":
    main()
