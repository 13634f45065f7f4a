//! Which device the model runs on, decided in one place at run time.
//!
//! CUDA and Metal exist only in builds with those cargo features; the CPU always exists. It never
//! panics: a driver that is absent or broken is an error, or under `Auto` a reason to use the CPU.

use candle_core::Device;

use crate::error::Error;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The fastest there is.
    #[default]
    Auto,
    Cpu,
    Cuda,
    Metal,
}

impl std::str::FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda),
            "metal" => Ok(DeviceChoice::Metal),
            other => {
                let reason = "the devices are auto, cpu, cuda, metal".to_string();
                Err(Error::Device { device: other.to_string(), reason })
            }
        }
    }
}

/// Opens the chosen device. Errors only when a device was asked for by name and is not there.
pub fn choose(choice: DeviceChoice) -> Result<Device, Error> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Cuda => cuda(),
        DeviceChoice::Metal => metal(),
        DeviceChoice::Auto => Ok(cuda().or_else(|_| metal()).unwrap_or(Device::Cpu)),
    }
}

/// The device's name as a user reads it.
pub fn name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "CPU",
        Device::Cuda(_) => "CUDA",
        Device::Metal(_) => "Metal",
    }
}

fn cuda() -> Result<Device, Error> {
    if !cfg!(feature = "cuda") {
        return Err(absent("cuda", "this build was made without the `cuda` feature"));
    }
    open("cuda", || Device::new_cuda(0))
}

fn metal() -> Result<Device, Error> {
    if !cfg!(feature = "metal") {
        return Err(absent("metal", "this build was made without the `metal` feature"));
    }
    open("metal", || Device::new_metal(0))
}

/// The CUDA binding panics instead of failing when no driver is installed.
fn open(
    device: &str,
    open: impl FnOnce() -> candle_core::Result<Device> + std::panic::UnwindSafe,
) -> Result<Device, Error> {
    match std::panic::catch_unwind(open) {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(absent(device, &error.to_string())),
        Err(_) => Err(absent(device, "its driver is not installed")),
    }
}

fn absent(device: &str, reason: &str) -> Error {
    Error::Device { device: device.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_always_finds_a_device_and_absent_ones_say_why() {
        assert!(choose(DeviceChoice::Auto).is_ok());
        assert!(matches!(choose(DeviceChoice::Cpu), Ok(Device::Cpu)));
        if !cfg!(feature = "cuda") {
            let message = choose(DeviceChoice::Cuda).unwrap_err().to_string();
            assert!(message.contains("without the `cuda` feature"), "{message}");
        }
        assert!("gpu".parse::<DeviceChoice>().is_err());
    }
}
