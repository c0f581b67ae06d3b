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
    /// The shared objects in it that are unpacked; others are not needed.
    pub libraries: &'static [Library],
}

/// A shared object of a wheel. The hashes are those of the wheels' own lists (`RECORD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Library {
    /// Its file name.
    pub file: &'static str,
    /// Its hash, in hexadecimal.
    pub sha256: &'static str,
    /// Its size.
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

/// The wheel of NCCL for Linux on `arch`, which runs that train on several GPUs fetch beside those of
/// [`Build::Cuda`]; `None` if nothing is pinned. The library needs nothing but the driver.
#[must_use]
pub fn nccl_wheel(os: &str, arch: &str) -> Option<&'static Wheel> {
    match (os, arch) {
        ("linux", "x86_64") => Some(&NCCL_X86_64),
        ("linux", "aarch64") => Some(&NCCL_AARCH64),
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
    libraries: &[
        Library {
            file: "libonnxruntime.so.1.31.1",
            sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
            bytes: 29_352_200,
        },
        Library {
            file: "libonnxruntime_providers_shared.so",
            sha256: "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
            bytes: 14_632,
        },
    ],
}];

const CUDA_X86_64: &[Wheel] = &[
    Wheel {
        package: "onnxruntime-gpu",
        file: "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_28_x86_64.whl",
        sha256: "05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7",
        bytes: 255_569_273,
        libraries: &[
            Library {
                file: "libonnxruntime.so.1.31.1",
                sha256: "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303",
                bytes: 29_421_832,
            },
            Library {
                file: "libonnxruntime_providers_cuda.so",
                sha256: "8387867e857499e045caff5d13ac6a5de29571c801562fa2dde0e45f1f31de52",
                bytes: 284_014_752,
            },
            Library {
                file: "libonnxruntime_providers_shared.so",
                sha256: "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
                bytes: 14_632,
            },
        ],
    },
    Wheel {
        package: "nvidia-cuda-runtime",
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        bytes: 2_243_632,
        libraries: &[Library {
            file: "libcudart.so.13",
            sha256: "96c42e418cec19054186b9429c321603cc190bf26a18104e19408117a2a817b0",
            bytes: 704_288,
        }],
    },
    Wheel {
        package: "nvidia-cuda-nvrtc",
        file: "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
        bytes: 90_215_200,
        libraries: &[
            Library {
                file: "libnvrtc-builtins.so.13.0",
                sha256: "91dcd944d01da9c0f08fff5d779db136a47f6d62bdb63bae900d2f481e92c3a2",
                bytes: 4_380_616,
            },
            Library {
                file: "libnvrtc.so.13",
                sha256: "a49e67e8e74590f1e98de55c39c6287efd3f59e3c3797464d7bbe0fe01349b11",
                bytes: 109_338_064,
            },
        ],
    },
    Wheel {
        package: "nvidia-cublas",
        file: "nvidia_cublas-13.0.2.14-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c",
        bytes: 420_882_912,
        libraries: &[
            Library {
                file: "libcublas.so.13",
                sha256: "1d5f1452af53a0b1cf36bc7d8116d2a22a5f2cffbaa8fca25a1b70360a2e8d7a",
                bytes: 54_440_120,
            },
            Library {
                file: "libcublasLt.so.13",
                sha256: "4c15f403ac2a8040a3291d07f6c351b5c1f730b45f2ea41f302e415e9600655b",
                bytes: 539_533_072,
            },
        ],
    },
    Wheel {
        package: "nvidia-curand",
        file: "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
        bytes: 59_544_258,
        libraries: &[Library {
            file: "libcurand.so.10",
            sha256: "b53732a66b302b11926e00f762e2c2ba67058347ff93cf4ae709de45e93e06da",
            bytes: 132_698_328,
        }],
    },
    Wheel {
        package: "nvidia-cudnn-cu13",
        file: "nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "0c45dd8eeb50b603f07995b1b300c62ffe6a1980482b82b3bcf94a4ca9d49304",
        bytes: 366_173_588,
        libraries: &[
            Library {
                file: "libcudnn.so.9",
                sha256: "b88025af76979b3f1af208790195093684fe01cb8d190528856058f988016660",
                bytes: 129_240,
            },
            Library {
                file: "libcudnn_adv.so.9",
                sha256: "7702094a50dbea5b8244df01af8e9d3565309d3996bbc8ca96b6c7a207d2d6bd",
                bytes: 109_169_104,
            },
            Library {
                file: "libcudnn_cnn.so.9",
                sha256: "e830c5cba875ebeb8ed3cfde5cc038a2703692ce714a8a4ff28666ac8e2c5732",
                bytes: 4_203_904,
            },
            Library {
                file: "libcudnn_engines_precompiled.so.9",
                sha256: "e5133109f710c215d72fdc8f1d9be187f4760f5f32e57cc8c57515ea9e91455e",
                bytes: 245_391_920,
            },
            Library {
                file: "libcudnn_engines_runtime_compiled.so.9",
                sha256: "28db2a6f433a184e264d927b183c47ecaf72dc65ed58245a6d2380f980e29cd3",
                bytes: 29_386_664,
            },
            Library {
                file: "libcudnn_graph.so.9",
                sha256: "35c099d318433a88d292775676a51a07d2dd152c3ae799b1c21a75b40f78e456",
                bytes: 4_460_192,
            },
            Library {
                file: "libcudnn_heuristic.so.9",
                sha256: "a41eb9baa9ccc9e2d6c9f2ca226021b54c8ee2df4abf3a91e41687847b481228",
                bytes: 60_822_040,
            },
            Library {
                file: "libcudnn_ops.so.9",
                sha256: "705d3dcf9b209fdbeeecd8aaec5fcd0f6f55de5661e1c1388b5a4b8fd29db7c3",
                bytes: 39_855_888,
            },
        ],
    },
];

const CPU_AARCH64: &[Wheel] = &[Wheel {
    package: "onnxruntime",
    file: "onnxruntime-1.31.1-cp312-cp312-manylinux_2_28_aarch64.whl",
    sha256: "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
    bytes: 21_420_803,
    libraries: &[
        Library {
            file: "libonnxruntime.so.1.31.1",
            sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
            bytes: 25_265_040,
        },
        Library {
            file: "libonnxruntime_providers_shared.so",
            sha256: "3b6be288fbfb7dff8770d08a23defdde18e8f7e0f5a2b344a0e5e238c999ea88",
            bytes: 198_792,
        },
    ],
}];

const CUDA_AARCH64: &[Wheel] = &[
    Wheel {
        package: "onnxruntime-gpu",
        file: "onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_34_aarch64.whl",
        sha256: "a0f1725c5a6d1ef82d63498b5ebc25e2c90c9560e91dc76db9be4a49162d4d33",
        bytes: 212_341_829,
        libraries: &[
            Library {
                file: "libonnxruntime.so.1.31.1",
                sha256: "25430c15445a74ea480116a0da41533d83e59bceb1a18004c97e4873334afc90",
                bytes: 25_002_552,
            },
            Library {
                file: "libonnxruntime_providers_cuda.so",
                sha256: "bf506a34897f3bdbd9c162f4fd697d0073d2ed1e2a32b3d654b34f2e3bda04c2",
                bytes: 237_857_264,
            },
            Library {
                file: "libonnxruntime_providers_shared.so",
                sha256: "1fc9a38c51a15164ae7d126f4e89447e718e47bd0a934eaa1a86bb60a6ec4955",
                bytes: 198_792,
            },
        ],
    },
    Wheel {
        package: "nvidia-cuda-runtime",
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        sha256: "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
        bytes: 2_261_060,
        libraries: &[Library {
            file: "libcudart.so.13",
            sha256: "7bdba2b5b08cbdc85203c41cc94598adedb1bcfea7cb574ca693ac73599e4e63",
            bytes: 707_752,
        }],
    },
    Wheel {
        package: "nvidia-cuda-nvrtc",
        file: "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        sha256: "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b",
        bytes: 43_015_449,
        libraries: &[
            Library {
                file: "libnvrtc-builtins.so.13.0",
                sha256: "84f1c5031bfe1146375b367b2c7fb8d31ea00430be7172177eeb5d04ab813b69",
                bytes: 4_380_456,
            },
            Library {
                file: "libnvrtc.so.13",
                sha256: "64db9c3fc128f4a57a22c314fda08831a8e3a725d439a70076a0fb98f7bea1b7",
                bytes: 99_505_944,
            },
        ],
    },
    Wheel {
        package: "nvidia-cublas",
        file: "nvidia_cublas-13.0.2.14-py3-none-manylinux_2_27_aarch64.whl",
        sha256: "17165c296de689662b96e0ef4f21dfbff3092ff00d0e3e59470f5acb08c0f87d",
        bytes: 540_253_486,
        libraries: &[
            Library {
                file: "libcublas.so.13",
                sha256: "2d389825cfad33aeb95b247d9aa0f9e8fc430adcec8ea25d31e9ee26e6444681",
                bytes: 62_180_552,
            },
            Library {
                file: "libcublasLt.so.13",
                sha256: "62bb7cc55979aa9e50d480fff6ef044e83e260f171a30d12391c2a884eaa30ff",
                bytes: 628_174_680,
            },
        ],
    },
    Wheel {
        package: "nvidia-curand",
        file: "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_aarch64.whl",
        sha256: "133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a",
        bytes: 61_962_106,
        libraries: &[Library {
            file: "libcurand.so.10",
            sha256: "80aedb15af13cf3b43cf8394fc9b5f9f299d6eaa5d2ddd6411b26af25b5334a2",
            bytes: 147_889_368,
        }],
    },
    Wheel {
        package: "nvidia-cudnn-cu13",
        file: "nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_aarch64.whl",
        sha256: "e31454ae00094b0c55319d9d15b6fa2fc50a9e1c0f5c8c80fb75258234e731e1",
        bytes: 444_574_296,
        libraries: &[
            Library {
                file: "libcudnn.so.9",
                sha256: "119059d6ad15f576608a0daa547444538062bf5e6be970f090298b50636e13b6",
                bytes: 6_328_728,
            },
            Library {
                file: "libcudnn_adv.so.9",
                sha256: "940107ad76ecd853f70c7a48b122cf4369c735fdb57361982d6460ca499a61bf",
                bytes: 132_239_032,
            },
            Library {
                file: "libcudnn_cnn.so.9",
                sha256: "9022f5c0607cbeff24c7a1418362417e1238c8f42039a14dd8befb9b292d014d",
                bytes: 2_501_768,
            },
            Library {
                file: "libcudnn_engines_precompiled.so.9",
                sha256: "3b765736f63d724a0de67b7ce915b0d0a780154fe4a2d515ab14040224aa7db4",
                bytes: 299_909_640,
            },
            Library {
                file: "libcudnn_engines_runtime_compiled.so.9",
                sha256: "7b8f371a7718c29549317efdbdeb8d7c301874f9471762a04830846ac4e83510",
                bytes: 33_571_912,
            },
            Library {
                file: "libcudnn_graph.so.9",
                sha256: "b601fddd333d84ced4a3d833e75bb412c204e39b21755d79cb890335dce660b8",
                bytes: 10_749_656,
            },
            Library {
                file: "libcudnn_heuristic.so.9",
                sha256: "368687b9b5c2c01b55c21f74bd930cb05d3654b4e901e998b7bfb33cebac6ae8",
                bytes: 65_015_024,
            },
            Library {
                file: "libcudnn_ops.so.9",
                sha256: "9765db5f193984c32b76daca262fa5f2e3d77b29082afcabb5467d555f454258",
                bytes: 50_342_776,
            },
        ],
    },
];

const NCCL_X86_64: Wheel = Wheel {
    package: "nvidia-nccl-cu13",
    file: "nvidia_nccl_cu13-2.32.3-py3-none-manylinux_2_27_x86_64.whl",
    sha256: "1459723080ac889d73a26edfa3e04383a7928ab31ac8f0ec43b3ea9548b04ff3",
    bytes: 305_100_071,
    libraries: &[Library {
        file: "libnccl.so.2",
        sha256: "651cf05af28976ca8d996f4e2750e69db1fa427667ee3405b9e576e9d2960eaf",
        bytes: 343_864_936,
    }],
};

const NCCL_AARCH64: Wheel = Wheel {
    package: "nvidia-nccl-cu13",
    file: "nvidia_nccl_cu13-2.32.3-py3-none-manylinux_2_27_aarch64.whl",
    sha256: "a5bee92b2f4af218c109f8d221c3c9adcc752b94ae0ffcb0ed5abf9341a7724c",
    bytes: 305_107_282,
    libraries: &[Library {
        file: "libnccl.so.2",
        sha256: "c77f5ced2c4b538aad2b0ab88a9838e9eac9a68e22017863ffb0cff9c4f58745",
        bytes: 346_523_448,
    }],
};

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
            // Once for each architecture.
            let nccl = nccl_wheel("linux", arch).filter(|_| build == Build::Cuda);
            for wheel in wheels(build, "linux", arch).unwrap().iter().chain(nccl) {
                assert!(wheel.file.ends_with(&format!("{arch}.whl")), "{}", wheel.file);
                assert!(wheel.file.starts_with(&wheel.package.replace('-', "_")), "{}", wheel.file);
                assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
                assert!(hashes.insert(wheel.sha256), "{} is listed twice", wheel.sha256);
                assert!(!wheel.libraries.is_empty());
                for library in wheel.libraries {
                    assert!(library.file.starts_with("lib") && library.bytes > 0, "{}", library.file);
                    let hash = library.sha256;
                    assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
                }
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
        assert_eq!(nccl_wheel("linux", "riscv64"), None);
    }
}
