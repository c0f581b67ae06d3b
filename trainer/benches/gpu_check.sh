#!/usr/bin/env bash
# Everything that only a GPU can show, in eight minutes on a machine that has no Rust and no network: Linux on x86_64 with
# a GPU and its driver, and a Python with PyTorch for CUDA 13, torchvision, timm, onnx and onnxscript.
#
#     trainer/benches/gpu_check.sh pack carried [--arch 90] [--piece-mb 60]
#     carried/gpu_check.sh run carried --out results [--only TEXT] [--quick] [--device cpu]
#
# `pack` builds the binaries and tests, fetches libraries, and writes archives of that size, with this script beside them.
# The folder is carried to the machine, where `run` unpacks it and prints a line of JSON for each part: gpu_check.py.
# `--device cpu --quick` tries the check itself without a GPU. PYTHON names the Python, else python3.
set -euo pipefail

python=${PYTHON:-python3}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -lt 2 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
mode=$1 carried=$2
shift 2

case $mode in
pack) exec "$python" "$here/gpu_pack.py" "$carried" "$@" ;;
run) ;;
*)
    echo "error: expected pack or run, found $mode" >&2
    exit 2
    ;;
esac

pieces=("$carried"/carried.tar.xz.*)
if [ ! -f "${pieces[0]}" ]; then
    echo "error: $carried has no carried.tar.xz.00; make it with: gpu_check.sh pack $carried" >&2
    exit 2
fi
carried=$(cd "$carried" && pwd)
root=$carried/unpacked
if [ ! -f "$root/complete" ] || [ "${pieces[0]}" -nt "$root/complete" ]; then
    rm -rf "$root"
    mkdir "$root"
    # Python has a decompressor wherever it is; not every machine has xz.
    cat "${pieces[@]}" | "$python" -c 'import lzma, shutil, sys
shutil.copyfileobj(lzma.open(sys.stdin.buffer), sys.stdout.buffer, 1 << 20)' | tar -xC "$root"
    touch "$root/complete"
fi

# Tests read files beside their sources, where those were when they were built.
built=$(cat "$root/built-in")
if [ ! -e "$built" ]; then
    mkdir -p "$(dirname "$built")"
    ln -sfn "$root/source" "$built"
fi

# NVIDIA's libraries of PyTorch are those of ONNX Runtime as well.
nvidia=$("$python" -c 'import glob, sys
print(":".join(folder for path in sys.path for folder in sorted(glob.glob(path + "/nvidia/*/lib"))))')
if [ -z "${CUDA_HOME:-}" ] && ! command -v nvcc >/dev/null; then
    for folder in ${nvidia//:/ }; do
        # PyTorch looks for headers there before it compiles a kernel.
        [ -d "$folder/../include" ] && export CUDA_HOME=${folder%/lib} && break
    done
fi
export LD_LIBRARY_PATH=$nvidia${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export ORT_DYLIB_PATH=$root/lib/libonnxruntime.so
export PATH=$root/mpi/bin:$PATH
exec "$python" "$root/benches/gpu_check.py" --carried "$root" "$@"
