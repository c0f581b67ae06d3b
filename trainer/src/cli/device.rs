//! The device and the backend that the command line asks for.

use fovea_trainer::{
    backend::{BackendError, NullBackend, OrtBackend, OrtOptions, ReferenceBackend, Setup, TrainingBackend},
    runtime::{Bar, Loaded, Options, environment},
};

use super::args::{BackendName, DeviceArgs, RuntimeArgs};

/// Makes the backend.
pub fn backend(args: &DeviceArgs, setup: &Setup<'_>) -> Result<Box<dyn TrainingBackend>, BackendError> {
    Ok(match args.backend {
        BackendName::Null => Box::new(NullBackend::new(setup)),
        BackendName::Reference => Box::new(ReferenceBackend::new(setup)?),
        BackendName::Ort => {
            let (loaded, options) = runtime(&args.runtime)?;
            Box::new(OrtBackend::new(loaded, setup, options)?)
        }
    })
}

/// Loads ONNX Runtime, fetching it first if need be.
pub fn runtime(args: &RuntimeArgs) -> Result<(&'static Loaded, OrtOptions), BackendError> {
    let device = args.device.resolve();
    let from_env = Options::from_env(device.build());
    let options = Options {
        dylib: args.ort_dylib.clone().or(from_env.dylib),
        threads: args.threads.map_or(0, usize::from),
        ..from_env
    };
    let loaded = environment(&options, &mut Bar::default())?;
    Ok((loaded, OrtOptions { tf32: args.tf32, ..OrtOptions::new(device) }))
}
