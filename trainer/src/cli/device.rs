//! The backend that the command line asks for.

use fovea_trainer::{
    backend::{NullBackend, OrtBackend, OrtOptions, ReferenceBackend, Setup, TrainingBackend},
    runtime::{Bar, Options, environment},
    training::TrainingError,
};

use super::args::{BackendName, DeviceArgs};

/// Makes the backend, fetching ONNX Runtime first if need be.
pub fn backend(args: &DeviceArgs, setup: &Setup<'_>) -> Result<Box<dyn TrainingBackend>, TrainingError> {
    Ok(match args.backend {
        BackendName::Null => Box::new(NullBackend::new(setup)),
        BackendName::Reference => Box::new(ReferenceBackend::new(setup)?),
        BackendName::Ort => {
            let device = args.device.resolve();
            let from_env = Options::from_env(device.build());
            let options = Options {
                dylib: args.ort_dylib.clone().or(from_env.dylib),
                threads: args.threads.map_or(0, usize::from),
                ..from_env
            };
            let loaded = environment(&options, &mut Bar::default())
                .map_err(fovea_trainer::backend::BackendError::from)?;
            Box::new(OrtBackend::new(
                loaded,
                setup,
                OrtOptions { tf32: args.tf32, ..OrtOptions::new(device) },
            )?)
        }
    })
}
