//! The device that a backend computes on.

use std::fmt;
use std::str::FromStr;

use crate::{Build, RuntimeError, check_gpu};

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(u32),
}

impl Device {
    /// The build of ONNX Runtime for this device.
    #[must_use]
    pub fn build(self) -> Build {
        match self {
            Self::Cpu => Build::Cpu,
            Self::Cuda(_) => Build::Cuda,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(id) => write!(f, "cuda:{id}"),
        }
    }
}

/// The user's choice of device: `auto`, `cpu`, `cuda` or `cuda:1`.
///
/// Of several processes on a machine, each computes on a GPU of its own, unless one is chosen by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU if NVIDIA's driver has one, else the CPU.
    #[default]
    Auto,
    /// The first GPU.
    Cuda,
    /// This one.
    Exactly(Device),
}

impl DeviceChoice {
    /// The choice of the process with this number among those of its machine, which has so many GPUs.
    #[must_use]
    pub fn of_process(self, number: u32, gpus: u32) -> Self {
        match self {
            Self::Auto | Self::Cuda if gpus > 0 => Self::Exactly(Device::Cuda(number % gpus)),
            _ => self,
        }
    }

    /// The device on this machine. If there is a driver that cannot be used, a warning is logged with the
    /// reason for using the CPU.
    #[must_use]
    pub fn resolve(self) -> Device {
        match self {
            Self::Exactly(device) => device,
            Self::Cuda => Device::Cuda(0),
            Self::Auto => match check_gpu(true) {
                Ok(()) => Device::Cuda(0),
                Err(RuntimeError::NoDriver { .. }) => Device::Cpu,
                Err(reason) => {
                    tracing::warn!("computing on the CPU: {reason}");
                    Device::Cpu
                }
            },
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            || format!("unknown device `{text}`: give `auto`, `cpu`, `cuda` or `cuda:` with a number");
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Exactly(Device::Cpu)),
            None if text == "cuda" => Ok(Self::Cuda),
            // ONNX Runtime counts devices in an i32.
            Some(("cuda", id)) => match id.parse::<u32>() {
                Ok(id) if i32::try_from(id).is_ok() => Ok(Self::Exactly(Device::Cuda(id))),
                _ => Err(unknown()),
            },
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, DeviceChoice};

    #[test]
    fn devices_are_read_as_they_are_written() {
        let read = |text: &str| text.parse::<DeviceChoice>().unwrap();
        assert_eq!(read("auto"), DeviceChoice::Auto);
        assert_eq!(read("cuda"), DeviceChoice::Cuda);
        assert_eq!(DeviceChoice::Cuda.resolve(), Device::Cuda(0));
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(read(&device.to_string()), DeviceChoice::Exactly(device));
            assert_eq!(read(&device.to_string()).resolve(), device);
        }
    }

    #[test]
    fn each_process_of_a_machine_has_a_gpu_of_its_own_unless_one_is_chosen() {
        let chosen = |choice: DeviceChoice, gpus| (0..3).map(move |number| choice.of_process(number, gpus));
        for choice in [DeviceChoice::Auto, DeviceChoice::Cuda] {
            let gpus = [0, 1, 0].map(|id| DeviceChoice::Exactly(Device::Cuda(id)));
            assert!(chosen(choice, 2).eq(gpus));
            assert!(chosen(choice, 0).eq([choice; 3]));
        }
        for device in [Device::Cpu, Device::Cuda(1)] {
            assert!(chosen(DeviceChoice::Exactly(device), 2).eq([DeviceChoice::Exactly(device); 3]));
        }
    }

    #[test]
    fn an_unknown_device_is_an_error_that_names_the_known_ones() {
        for text in ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:3000000000", "cpu:0", ""] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.contains(text) && error.contains("`cpu`"), "{error}");
        }
    }
}
