//! The questions to NVML, and the order they are asked in. Runs in the probe's child alone.
//!
//! Init is `nvmlInit_v2`, the very call that NCCL makes, at every depth. The wrapper asks for the
//! driver's version within it; a hang there shows as one of `nvmlInit_v2`.
//!
//! A failed call about one GPU is that GPU's error, and the next is asked all the same. A GPU whose
//! handle cannot be had, or that is lost, is asked nothing more.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::{
    ComputeMode, EccCounter, MemoryError, TemperatureSensor,
};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml as Library};

use super::codes;
use crate::host::depth::Depth;
use crate::host::facts::nvidia::{Nvml, NvmlDevice, ResultCode};

/// What the ranks load.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// More GPUs than any machine has; a count above is a library's error.
const DEVICES_LIMIT: u32 = 1024;

/// `NVML_FI_DEV_REMAPPED_{COR,UNC,PENDING,FAILURE}` and `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`.
///
/// All are below 251, where NVIDIA renumbered in 580.82; the wrapper would translate those.
const FIELDS: [FieldId; 5] = [FieldId(142), FieldId(143), FieldId(144), FieldId(145), FieldId(230)];

/// Asks; `say` is told the name of each call before it is made.
pub fn ask(library: Option<&Path>, depth: Depth, say: &mut dyn FnMut(&str)) -> Nvml {
    let since = Instant::now();
    let mut builder = Library::builder();
    let path = library.map_or(OsStr::new(LIBRARY), Path::as_os_str);
    say("nvmlInit_v2");
    let result = builder.lib_path(path).init();
    let mut answer = Nvml { library: loaded(library), ..Nvml::default() };
    match result {
        Ok(nvml) => {
            // Its destructor is `nvmlShutdown`, which may hang.
            let nvml = std::mem::ManuallyDrop::new(nvml);
            answer.init = codes::result(0);
            ask_machine(&nvml, &mut answer, say);
            for index in 0..answer.device_count.unwrap_or(0).min(DEVICES_LIMIT) {
                answer.devices.push(ask_device(&nvml, index, depth, say));
            }
        }
        Err(error) => answer.init = codes::of(error),
    }
    answer.took_ms = millis(since.elapsed());
    answer
}

fn ask_machine(nvml: &Library, answer: &mut Nvml, say: &mut dyn FnMut(&str)) {
    let errors = &mut answer.errors;
    let mut call = Caller { say, errors };
    answer.driver_version = call.make("nvmlSystemGetDriverVersion", || nvml.sys_driver_version());
    answer.nvml_version = call.make("nvmlSystemGetNVMLVersion", || nvml.sys_nvml_version());
    answer.cuda_version =
        call.make("nvmlSystemGetCudaDriverVersion_v2", || nvml.sys_cuda_driver_version());
    answer.device_count = call.make("nvmlDeviceGetCount_v2", || nvml.device_count());
}

/// Makes calls, and keeps what failed.
struct Caller<'a> {
    say: &'a mut dyn FnMut(&str),
    errors: &'a mut Vec<(String, ResultCode)>,
}

impl Caller<'_> {
    fn make<T>(&mut self, stage: &str, call: impl FnOnce() -> Result<T, NvmlError>) -> Option<T> {
        (self.say)(stage);
        call().map_err(|error| self.note(stage, error)).ok()
    }

    fn note(&mut self, stage: &str, error: NvmlError) {
        let code = codes::of(error);
        if !codes::is_unsupported(code.code) {
            self.errors.push((stage.to_owned(), code));
        }
    }

    fn is_lost(&self) -> bool {
        self.errors.iter().any(|(_, code)| code.code == codes::GPU_IS_LOST)
    }
}

fn ask_device(nvml: &Library, index: u32, depth: Depth, say: &mut dyn FnMut(&str)) -> NvmlDevice {
    let mut device = NvmlDevice { index, ..NvmlDevice::default() };
    let mut errors = Vec::new();
    let mut call = Caller { say, errors: &mut errors };
    let since = Instant::now();
    let stage = format!("nvmlDeviceGetHandleByIndex_v2({index})");
    (call.say)(&stage);
    match nvml.device_by_index(index) {
        Ok(handle) => {
            device.open_ms = Some(millis(since.elapsed()));
            let mut questions: Vec<Question> = QUESTIONS.to_vec();
            if depth == Depth::Full {
                questions.extend(MORE_QUESTIONS);
            }
            for (symbol, question) in questions {
                if call.is_lost() {
                    break;
                }
                let stage = format!("{symbol}({index})");
                call.make(&stage, || question(&handle, &mut device));
            }
        }
        // "Not supported" is no way to hand out a GPU.
        Err(error) => call.errors.push((stage, codes::of(error))),
    }
    device.error = worst(errors);
    device
}

/// The first error; one of permission only where there is no other: a container may forbid what
/// nobody needs.
fn worst(mut errors: Vec<(String, ResultCode)>) -> Option<(String, ResultCode)> {
    let is_real = |(_, code): &(String, ResultCode)| code.code != codes::NO_PERMISSION;
    let at = errors.iter().position(is_real).unwrap_or(0);
    (!errors.is_empty()).then(|| errors.swap_remove(at))
}

type Question = (&'static str, fn(&Device<'_>, &mut NvmlDevice) -> Result<(), NvmlError>);

/// What judging needs, cheap calls all.
const QUESTIONS: [Question; 8] = [
    ("nvmlDeviceGetPciInfo_v3", |handle, device| {
        device.address = Some(sysfs_address(&handle.pci_info()?.bus_id));
        Ok(())
    }),
    ("nvmlDeviceGetUUID", |handle, device| {
        device.uuid = Some(handle.uuid()?);
        Ok(())
    }),
    ("nvmlDeviceGetName", |handle, device| {
        device.name = Some(handle.name()?);
        Ok(())
    }),
    ("nvmlDeviceGetPersistenceMode", |handle, device| {
        device.persistence = Some(handle.is_in_persistent_mode()?);
        Ok(())
    }),
    ("nvmlDeviceGetComputeMode", |handle, device| {
        let mode = match handle.compute_mode()? {
            ComputeMode::Default => "default",
            ComputeMode::Prohibited => "prohibited",
            ComputeMode::ExclusiveThread | ComputeMode::ExclusiveProcess => "exclusive_process",
        };
        device.compute_mode = Some(mode.to_owned());
        Ok(())
    }),
    ("nvmlDeviceGetTotalEccErrors", |handle, device| {
        let errors = handle.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)?;
        device.ecc_uncorrected = Some(errors);
        Ok(())
    }),
    ("nvmlDeviceGetFieldValues", |handle, device| {
        for sample in handle.field_values_for(&FIELDS)?.into_iter().flatten() {
            let Some(value) = sample.value.ok().as_ref().and_then(whole) else { continue };
            match sample.field.0 {
                142 => device.remapped_correctable = Some(value),
                143 => device.remapped_uncorrectable = Some(value),
                144 => device.remap_pending = Some(value != 0),
                145 => device.remap_failed = Some(value != 0),
                _ => device.recovery_action = u32::try_from(value).ok(),
            }
        }
        Ok(())
    }),
    ("nvmlDeviceGetMigMode", |handle, device| {
        device.mig = Some(handle.mig_mode()?.current != 0);
        Ok(())
    }),
];

/// What is asked at full depth besides.
const MORE_QUESTIONS: [Question; 5] = [
    ("nvmlDeviceGetBrand", |handle, device| {
        device.brand = match handle.brand() {
            Ok(brand) => Some(brand.as_c()),
            // A brand that the wrapper does not know comes as the same error as a result code
            // that it does not know; there are no brands from 23 on.
            Err(NvmlError::UnexpectedVariant(brand @ ..=22)) => Some(brand),
            Err(error) => return Err(error),
        };
        Ok(())
    }),
    ("nvmlDeviceGetCurrentClocksThrottleReasons", |handle, device| {
        device.throttle_reasons = Some(handle.current_throttle_reasons()?.bits());
        Ok(())
    }),
    ("nvmlDeviceGetTemperature", |handle, device| {
        device.temperature = Some(handle.temperature(TemperatureSensor::Gpu)?);
        Ok(())
    }),
    ("nvmlDeviceGetComputeRunningProcesses_v3", |handle, device| {
        let processes = handle.running_compute_processes()?;
        device.processes = processes.into_iter().map(|process| process.pid).collect();
        Ok(())
    }),
    ("nvmlDeviceGetMemoryInfo_v2", |handle, device| {
        let memory = handle.memory_info()?;
        (device.memory_used, device.memory_total) = (Some(memory.used), Some(memory.total));
        Ok(())
    }),
];

fn whole(value: &SampleValue) -> Option<u64> {
    match *value {
        SampleValue::U32(value) => Some(value.into()),
        SampleValue::U64(value) => Some(value),
        SampleValue::I64(value) => u64::try_from(value).ok(),
        SampleValue::F64(_) => None,
    }
}

/// NVML's `00000000:3B:00.0` as sysfs writes it: `0000:3b:00.0`.
fn sysfs_address(bus_id: &str) -> String {
    let lower = bus_id.trim().to_ascii_lowercase();
    match lower.split_once(':').map(|(domain, rest)| (u32::from_str_radix(domain, 16), rest)) {
        Some((Ok(domain), rest)) => format!("{domain:04x}:{rest}"),
        _ => lower,
    }
}

/// The file that this process has loaded as NVML.
fn loaded(library: Option<&Path>) -> Option<String> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let file = library.and_then(|library| library.canonicalize().ok());
    find_library(&String::from_utf8_lossy(&maps), file.as_deref())
}

/// The first mapped file that is this one, or has NVML's name.
fn find_library(maps: &str, file: Option<&Path>) -> Option<String> {
    let is_it = |path: &&str| match file {
        Some(file) => Path::new(path) == file,
        None => path.rsplit('/').next().is_some_and(|name| name.starts_with("libnvidia-ml.so")),
    };
    // proc(5): address, permissions, offset, device, inode, and the path after blanks.
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    paths.map(|path| path.trim_end_matches(" (deleted)")).find(is_it).map(str::to_owned)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_form_of_sysfs() {
        for (nvml, sysfs) in [
            ("00000000:3B:00.0", "0000:3b:00.0"),
            ("0000:DC:00.0", "0000:dc:00.0"),
            ("00010000:E1:00.1", "10000:e1:00.1"),
            ("", ""),
            ("nonsense", "nonsense"),
            ("xyz:01:00.0", "xyz:01:00.0"),
        ] {
            assert_eq!(sysfs_address(nvml), sysfs);
        }
    }

    #[test]
    fn the_library_is_found_among_the_mapped_files() {
        let maps = "\
            55-56 r--p 0 fd:00 1                          /usr/bin/nvlaunch\n\
            7f-80 rw-p 0 00:00 0 \n\
            7f-80 r-xp 0 fd:00 2   /opt/driver x/libnvidia-ml.so.580.95.05 (deleted)\n\
            7f-80 r-xp 0 fd:00 3   /opt/fake.so\n\
            7f-80 rw-p 0 00:00 0                          [stack]\n";
        let named = Some("/opt/driver x/libnvidia-ml.so.580.95.05".to_owned());
        assert_eq!(find_library(maps, None), named);
        let fake = Path::new("/opt/fake.so");
        assert_eq!(find_library(maps, Some(fake)), Some("/opt/fake.so".to_owned()));
        assert_eq!(find_library(maps, Some(Path::new("/opt/other.so"))), None);
        assert_eq!(find_library("", None), None);
    }

    #[test]
    fn permission_is_named_only_where_nothing_else_failed() {
        let error = |code| (format!("call{code}"), codes::result(code));
        assert_eq!(worst(vec![]), None);
        assert_eq!(worst(vec![error(4)]), Some(error(4)));
        assert_eq!(worst(vec![error(4), error(15), error(16)]), Some(error(15)));
    }
}
