//! The builds of ONNX Runtime and their wheels, pinned by name, size and sha256, so that no index can provide
//! anything else.
//!
//! The shared objects in a wheel do not depend on its Python version; one version is used. The CUDA
//! provider's dependencies were read from its dynamic section (`readelf -d`: cudart, cublas, cublasLt,
//! curand, and libcuda of the driver) and from the names that it and cuDNN open at run time (cuDNN, NVRTC).
//! cuFFT is opened only for Fourier transforms and omitted. The CUDA libraries are those of 13.0, which the
//! provider was built with, because they work with the oldest drivers.

use std::fmt;
use std::str::FromStr;

/// The pinned version of ONNX Runtime.
pub const ORT_VERSION: &str = "1.31.1";

/// The oldest minor version of ONNX Runtime 1 that has every function that the trainer calls.
pub const OLDEST_MINOR: u32 = ort::MINOR_VERSION;

/// A build of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Runs on the CPU only; 24 MB to fetch.
    Cpu,
    /// Runs on the CPU and on NVIDIA GPUs, with the CUDA libraries it needs; 1.2 GB to fetch.
    Cuda,
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

impl FromStr for Build {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => Err(format!("unknown device `{text}`: give `cpu` or `cuda`")),
        }
    }
}

/// One file of a Python package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wheel {
    /// Project name in the index.
    pub package: &'static str,
    /// File name in the index.
    pub file: &'static str,
    /// Hash of the file, in hexadecimal.
    pub sha256: &'static str,
    /// Size of the file.
    pub bytes: u64,
}

/// The wheels of a build for Linux on `arch` (`x86_64` or `aarch64`), ONNX Runtime first, then the libraries
/// that it needs; `None` if nothing is pinned.
#[must_use]
pub fn wheels(build: Build, os: &str, arch: &str) -> Option<&'static [Wheel]> {
    match (os, arch, build) {
        ("linux", "x86_64", Build::Cpu) => Some(CPU_X86_64),
        ("linux", "x86_64", Build::Cuda) => Some(CUDA_X86_64),
        ("linux", "aarch64", Build::Cpu) => Some(CPU_AARCH64),
        ("linux", "aarch64", Build::Cuda) => Some(CUDA_AARCH64),
        _ => None,
    }
}

/// Shared objects to load before the CUDA provider, each after its dependencies.
///
/// The dynamic linker finds loaded libraries by name, so no search path has to be set.
pub(super) const PRELOAD: &[&str] = &[
    "libcudart.so.13",
    "libnvrtc-builtins.so.13.0",
    "libnvrtc.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcudnn_graph.so.9",
    "libcudnn_ops.so.9",
    "libcudnn_cnn.so.9",
    "libcudnn_adv.so.9",
    "libcudnn_heuristic.so.9",
    "libcudnn_engines_precompiled.so.9",
    "libcudnn_engines_runtime_compiled.so.9",
    "libcudnn.so.9",
];

const CPU_X86_64: &[Wheel] = &[Wheel {
    package: "onnxruntime",
    file: "onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl",
    sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    bytes: 23_760_988,
}];

const CUDA_X86_64: &[Wheel] = &[
    Wheel {
        package: "onnxruntime-gpu",
        file: "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl",
        sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
        bytes: 255_569_273,
    },
    Wheel {
        package: "nvidia-cuda-runtime",
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        bytes: 2_243_632,
    },
    Wheel {
        package: "nvidia-cuda-nvrtc",
        file: "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        bytes: 90_215_200,
    },
    Wheel {
        package: "nvidia-cublas",
        file: "nvidia_cublas-13.0.2.14-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c",
        bytes: 420_882_912,
    },
    Wheel {
        package: "nvidia-curand",
        file: "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        bytes: 59_544_258,
    },
    Wheel {
        package: "nvidia-cudnn-cu13",
        file: "nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "0c45dd8eeb50b603f07995b1b300c62ffe6a1980482b82b3bcf94a4ca9d49304",
        bytes: 366_173_588,
    },
];

const CPU_AARCH64: &[Wheel] = &[Wheel {
    package: "onnxruntime",
    file: "onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_aarch64.whl",
    sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    bytes: 21_420_803,
}];

const CUDA_AARCH64: &[Wheel] = &[
    Wheel {
        package: "onnxruntime-gpu",
        file: "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_34_aarch64.whl",
        sha256: "a0f1725c5a6d1ef82d63498b5ebc25e2c90c9560e91dc76db9be4a49162d4d33",
        bytes: 212_341_829,
    },
    Wheel {
        package: "nvidia-cuda-runtime",
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        sha256: "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
        bytes: 2_261_060,
    },
    Wheel {
        package: "nvidia-cuda-nvrtc",
        file: "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        sha256: "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b",
        bytes: 43_015_449,
    },
    Wheel {
        package: "nvidia-cublas",
        file: "nvidia_cublas-13.0.2.14-py3-none-manylinux_2_27_aarch64.whl",
        sha256: "17165c296de689662b96e0ef4f21dfbff3092ff00d0e3e59470f5acb08c0f87d",
        bytes: 540_253_486,
    },
    Wheel {
        package: "nvidia-curand",
        file: "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_aarch64.whl",
        sha256: "133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a",
        bytes: 61_962_106,
    },
    Wheel {
        package: "nvidia-cudnn-cu13",
        file: "nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_aarch64.whl",
        sha256: "e31454ae00094b0c55319d9d15b6fa2fc50a9e1c0f5c8c80fb75258234e731e1",
        bytes: 444_574_296,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ALL: [(Build, &str); 4] =
        [(Build::Cpu, "x86_64"), (Build::Cuda, "x86_64"), (Build::Cpu, "aarch64"), (Build::Cuda, "aarch64")];

    #[test]
    fn every_wheel_is_for_its_architecture_and_has_a_complete_hash() {
        let mut hashes = HashSet::new();
        for (build, arch) in ALL {
            for wheel in wheels(build, "linux", arch).unwrap() {
                assert!(wheel.file.ends_with(&format!("{arch}.whl")), "{}", wheel.file);
                assert!(wheel.file.starts_with(&wheel.package.replace('-', "_")), "{}", wheel.file);
                assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
                assert!(hashes.insert(wheel.sha256), "{} is listed twice", wheel.sha256);
            }
        }
    }

    #[test]
    fn onnx_runtime_is_the_first_wheel_and_of_the_pinned_version() {
        for (build, arch) in ALL {
            let first = wheels(build, "linux", arch).unwrap()[0];
            assert!(
                first.file.contains(ORT_VERSION) && first.package.starts_with("onnxruntime"),
                "{}",
                first.file
            );
        }
    }

    #[test]
    fn nothing_is_pinned_for_other_machines() {
        assert_eq!(wheels(Build::Cpu, "plan9", "x86_64"), None);
        assert_eq!(wheels(Build::Cpu, "linux", "riscv64"), None);
    }
}
