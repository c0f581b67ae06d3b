//! Runs models through ONNX Runtime in tests.

mod fake_driver;
mod fake_nccl;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use ort::ep::CUDA;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor, TensorElementType};

use crate::{Device, DeviceChoice, OnnxRuntime, Options, environment, first_alone};

pub use fake_driver::FakeDriver;
pub use fake_nccl::FakeNccl;

/// Values of an input.
#[derive(Clone, Debug)]
pub enum Data {
    /// `f32`.
    F32(Vec<f32>),
    /// `f64`.
    F64(Vec<f64>),
    /// `u8`.
    U8(Vec<u8>),
    /// `i64`.
    I64(Vec<i64>),
    /// Boolean.
    Bool(Vec<bool>),
}

/// The device that tests compute on: the CPU, or that of `FOVEA_TEST_DEVICE` (`cuda`).
#[must_use]
pub fn device() -> Device {
    let text = env::var("FOVEA_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    text.parse::<DeviceChoice>().unwrap_or_else(|error| panic!("FOVEA_TEST_DEVICE: {error}")).resolve()
}

/// ONNX Runtime with two threads, fetched if the cache does not have it.
#[must_use]
pub fn runtime() -> &'static OnnxRuntime {
    let options = Options { threads: 2, ..Options::from_env(device().build()) };
    environment(&options, &mut ()).unwrap_or_else(|error| panic!("{error}"))
}

/// A session for the bytes of a model, with the trainer's settings.
#[must_use]
pub fn session(model: &[u8]) -> Session {
    open(model, device())
}

/// A session on the CPU, the only device that computes all of an f64 model in f64: CUDA's softmax does not.
#[must_use]
pub fn cpu_session(model: &[u8]) -> Session {
    open(model, Device::Cpu)
}

fn open(model: &[u8], device: Device) -> Session {
    let open = || -> ort::Result<Session> {
        let mut builder = Session::builder(&runtime().environment)?
            .with_optimization_level(GraphOptimizationLevel::Level2)?
            .with_memory_pattern(false)?
            .with_operators(fovea_kernels::operators(runtime().threads)?)?;
        if let Device::Cuda(id) = device {
            let cuda = CUDA::default().with_device_id(id as i32).with_tf32(false).build().error_on_failure();
            builder = builder.with_execution_providers([cuda])?;
        }
        builder.commit_from_memory(model)
    };
    first_alone(open).unwrap_or_else(|error| panic!("the model does not load: {error}"))
}

/// Runs a session and returns every output by name, as f64.
pub fn run(session: &mut Session, inputs: &[(&str, &[usize], Data)]) -> HashMap<String, Vec<f64>> {
    let values: Vec<(String, SessionInputValue<'_>)> =
        inputs.iter().map(|(name, shape, data)| ((*name).to_owned(), value(shape, data).into())).collect();
    let outputs = session.run(values).unwrap_or_else(|error| panic!("the model does not run: {error}"));
    outputs.iter().map(|(name, value)| (name.to_owned(), numbers(&value))).collect()
}

fn value(shape: &[usize], data: &Data) -> DynValue {
    let made = match data.clone() {
        Data::F32(v) => Tensor::from_array((shape, v)).map(Tensor::into_dyn),
        Data::F64(v) => Tensor::from_array((shape, v)).map(Tensor::into_dyn),
        Data::U8(v) => Tensor::from_array((shape, v)).map(Tensor::into_dyn),
        Data::I64(v) => Tensor::from_array((shape, v)).map(Tensor::into_dyn),
        Data::Bool(v) => Tensor::from_array((shape, v)).map(Tensor::into_dyn),
    };
    made.expect("data has the number of elements of its shape")
}

fn numbers(value: &ort::value::ValueRef<'_>) -> Vec<f64> {
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => {
            value.try_extract_tensor::<f32>().unwrap().1.iter().map(|&v| v.into()).collect()
        }
        Some(TensorElementType::Float64) => value.try_extract_tensor::<f64>().unwrap().1.to_vec(),
        Some(TensorElementType::Int64) => {
            value.try_extract_tensor::<i64>().unwrap().1.iter().map(|&v| v as f64).collect()
        }
        other => panic!("no test reads outputs of {other:?}"),
    }
}

/// A shared library compiled from `source`.
#[must_use]
pub fn compiled(folder: &Path, source: &str) -> PathBuf {
    let (file, library) = (folder.join("fake.rs"), folder.join("libfake.so"));
    fs::write(&file, source).unwrap();
    let status = Command::new("rustc")
        .args(["--edition=2024", "--crate-type=cdylib", "-o"])
        .args([&library, &file])
        .status()
        .unwrap();
    assert!(status.success());
    library
}
