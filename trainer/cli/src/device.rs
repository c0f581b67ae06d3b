//! The device and the backend of the command line.

use fovea_runtime::{Device, DeviceChoice, OnnxRuntime, Options, check_gpu, environment};
use fovea_tools::bars::FetchBar;
use fovea_tools::signals::at_once;
use fovea_trainer::backend::{
    BackendError, NullBackend, OrtBackend, OrtOptions, Precision, ReferenceBackend, Setup, TrainingBackend,
};

use super::args::{BackendKind, DeviceArgs, RuntimeArgs, StepArgs};

/// Makes the backend, with the precision of a run if the command line gives none; pass no `step` if there are
/// no training steps.
pub fn backend(
    args: &DeviceArgs,
    step: Option<&StepArgs>,
    setup: &Setup<'_>,
    for_run: Precision,
) -> Result<Box<dyn TrainingBackend>, BackendError> {
    Ok(match args.backend {
        BackendKind::Null => Box::new(NullBackend::new(setup)),
        BackendKind::Reference => Box::new(ReferenceBackend::new(setup)?),
        BackendKind::Ort => {
            let (loaded, options) = runtime(&args.runtime, step, for_run)?;
            Box::new(OrtBackend::new(loaded, setup, options)?)
        }
    })
}

/// Checks that there is a GPU if one was requested by name, before anything is prepared for it.
pub fn check(args: &RuntimeArgs) -> Result<(), BackendError> {
    let device = match args.device {
        DeviceChoice::Cuda => Device::Cuda(0),
        DeviceChoice::Exactly(device @ Device::Cuda(_)) => device,
        DeviceChoice::Auto | DeviceChoice::Exactly(Device::Cpu) => return Ok(()),
    };
    Ok(check_gpu(options(args, device).dylib.is_none())?)
}

fn options(args: &RuntimeArgs, device: Device) -> Options {
    let from_env = Options::from_env(device.build());
    Options {
        dylib: args.ort_dylib.clone().or(from_env.dylib),
        threads: args.threads.map_or(0, usize::from),
        ..from_env
    }
}

/// Loads ONNX Runtime, fetching it first if necessary; pass no `step` if there are no training steps.
pub fn runtime(
    args: &RuntimeArgs,
    step: Option<&StepArgs>,
    for_run: Precision,
) -> Result<(&'static OnnxRuntime, OrtOptions), BackendError> {
    let device = args.device.resolve();
    let loaded = at_once(|| environment(&options(args, device), &mut FetchBar::default()))?;
    let precision = args.precision.unwrap_or(for_run);
    let cuda_graph = step.is_some_and(|step| !step.no_cuda_graph);
    let copy_ahead = step.is_some_and(|step| !step.no_copy_ahead);
    let fastest = OrtOptions::new(device);
    let own_operators = match device {
        Device::Cpu => fastest.own_operators && step.is_none_or(|step| !step.standard_operators),
        Device::Cuda(_) => step.is_some_and(|step| step.own_cuda_kernels),
    };
    Ok((loaded, OrtOptions { precision, cuda_graph, copy_ahead, own_operators, ..fastest }))
}
