//! The library's calls, as nvml.h has them.

use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_ulonglong, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::*;

// ---- the library itself

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit() -> c_uint {
    init("nvmlInit")
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    init("nvmlInit_v2")
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> c_uint {
    init("nvmlInitWithFlags")
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    let code = enter_later("nvmlShutdown", None);
    IS_INITIALISED.store(false, Ordering::Relaxed);
    code
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(code: c_uint) -> *const c_char {
    let text = match code {
        0 => c"Success",
        NOT_INITIALISED => c"Uninitialized",
        NOT_SUPPORTED => c"Not Supported",
        NO_DRIVER => c"Driver Not Loaded",
        15 => c"GPU is lost",
        18 => c"Driver/library version mismatch",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, room: c_uint) -> c_uint {
    let text = match enter_later("nvmlSystemGetDriverVersion", None) {
        0 => script().driver_version.as_deref().ok_or(NOT_SUPPORTED),
        code => Err(code),
    };
    unsafe { give_text(text, to, room) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetNVMLVersion(to: *mut c_char, room: c_uint) -> c_uint {
    let text = match enter("nvmlSystemGetNVMLVersion", None) {
        0 => script().nvml_version.as_deref().ok_or(NOT_SUPPORTED),
        code => Err(code),
    };
    unsafe { give_text(text, to, room) }
}

fn cuda_version(symbol: &str) -> Result<c_int, c_uint> {
    match enter_later(symbol, None) {
        0 => script().cuda_version.ok_or(NOT_SUPPORTED),
        code => Err(code),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion(to: *mut c_int) -> c_uint {
    unsafe { give(cuda_version("nvmlSystemGetCudaDriverVersion"), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(to: *mut c_int) -> c_uint {
    unsafe { give(cuda_version("nvmlSystemGetCudaDriverVersion_v2"), to) }
}

// ---- finding a GPU

fn count(symbol: &str) -> Result<c_uint, c_uint> {
    match enter_later(symbol, None) {
        0 => Ok(c_uint::try_from(script().devices.len()).unwrap_or(c_uint::MAX)),
        code => Err(code),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount(to: *mut c_uint) -> c_uint {
    unsafe { give(count("nvmlDeviceGetCount"), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(to: *mut c_uint) -> c_uint {
    unsafe { give(count("nvmlDeviceGetCount_v2"), to) }
}

fn by_index(symbol: &str, index: c_uint) -> Result<Handle, c_uint> {
    gpu(symbol, handle(index as usize)).map(|(index, _)| handle(index))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex(index: c_uint, to: *mut Handle) -> c_uint {
    unsafe { give(by_index("nvmlDeviceGetHandleByIndex", index), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, to: *mut Handle) -> c_uint {
    unsafe { give(by_index("nvmlDeviceGetHandleByIndex_v2", index), to) }
}

/// # Safety
///
/// `wanted` is a C string.
unsafe fn by_text(
    symbol: &str,
    wanted: *const c_char,
    is_it: impl Fn(&Gpu, &str) -> bool,
) -> Result<Handle, c_uint> {
    let wanted = unsafe { CStr::from_ptr(wanted) }.to_str().map_err(|_| INVALID_ARGUMENT)?;
    let found = script().devices.iter().position(|gpu| is_it(gpu, wanted)).ok_or(NOT_FOUND)?;
    gpu(symbol, handle(found)).map(|(index, _)| handle(index))
}

/// Equal addresses: the domain is written with four digits or with eight.
fn is_at(gpu: &Gpu, wanted: &str) -> bool {
    let short = |text: &str| text.to_ascii_lowercase().trim_start_matches('0').to_owned();
    gpu.pci.as_deref().is_some_and(|own| short(own) == short(wanted))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId(
    wanted: *const c_char,
    to: *mut Handle,
) -> c_uint {
    unsafe { give(by_text("nvmlDeviceGetHandleByPciBusId", wanted, is_at), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    wanted: *const c_char,
    to: *mut Handle,
) -> c_uint {
    unsafe { give(by_text("nvmlDeviceGetHandleByPciBusId_v2", wanted, is_at), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    wanted: *const c_char,
    to: *mut Handle,
) -> c_uint {
    let is_it = |gpu: &Gpu, wanted: &str| gpu.uuid.as_deref() == Some(wanted);
    unsafe { give(by_text("nvmlDeviceGetHandleByUUID", wanted, is_it), to) }
}

// ---- what a GPU is

/// Functions that hand out one number: symbol, type, and the value by GPU.
macro_rules! numbers {
    ($($symbol:ident: $type:ty = $value:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $symbol(device: Handle, to: *mut $type) -> c_uint {
            let value: fn(usize, &Gpu) -> Option<$type> = $value;
            let found = gpu(stringify!($symbol), device);
            let value = found.and_then(|(index, gpu)| value(index, gpu).ok_or(NOT_SUPPORTED));
            unsafe { give(value, to) }
        }
    )*};
}

numbers! {
    nvmlDeviceGetIndex: c_uint = |index, _| c_uint::try_from(index).ok();
    nvmlDeviceGetMinorNumber: c_uint = |_, gpu| gpu.minor;
    nvmlDeviceGetBrand: c_uint = |_, gpu| gpu.brand;
    nvmlDeviceGetPersistenceMode: c_uint = |_, gpu| gpu.persistence.map(c_uint::from);
    nvmlDeviceGetComputeMode: c_uint = |_, gpu| match gpu.compute_mode.as_deref()? {
        "default" => Some(0),
        "prohibited" => Some(2),
        "exclusive_process" => Some(3),
        other => give_up(&format_args!("unknown compute_mode `{other}`")),
    };
    nvmlDeviceGetCurrentClocksThrottleReasons: c_ulonglong = |_, gpu| gpu.throttle_reasons;
    nvmlDeviceGetCurrentClocksEventReasons: c_ulonglong = |_, gpu| gpu.throttle_reasons;
    nvmlDeviceGetSupportedEventTypes: c_ulonglong = |_, _| Some(8);
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: Handle,
    to: *mut c_char,
    room: c_uint,
) -> c_uint {
    let text = of(gpu("nvmlDeviceGetUUID", device), |gpu| &gpu.uuid);
    unsafe { give_text(text.as_deref().map_err(|&code| code), to, room) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: Handle,
    to: *mut c_char,
    room: c_uint,
) -> c_uint {
    let text = of(gpu("nvmlDeviceGetName", device), |gpu| &gpu.name);
    unsafe { give_text(text.as_deref().map_err(|&code| code), to, room) }
}

/// `nvmlPciInfo_t`
#[repr(C)]
pub struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_sub_system_id: c_uint,
    bus_id: [c_char; 32],
}

fn pci_info(symbol: &str, device: Handle) -> Result<PciInfo, c_uint> {
    let address = of(gpu(symbol, device), |gpu| &gpu.pci)?;
    let number = |text: Option<&str>| text.and_then(|text| c_uint::from_str_radix(text, 16).ok());
    let mut parts = address.split([':', '.']);
    let mut next = || number(parts.next()).ok_or(INVALID_ARGUMENT);
    let (domain, bus, device) = (next()?, next()?, next()?);
    let mut info = PciInfo {
        bus_id_legacy: [0; 16],
        domain,
        bus,
        device,
        pci_device_id: 0x20b2_10de,
        pci_sub_system_id: 0x1463_10de,
        bus_id: [0; 32],
    };
    let fill = |to: &mut [c_char], text: &str| {
        let room = to.len() - 1;
        for (to, byte) in to[..room].iter_mut().zip(text.bytes()) {
            *to = byte.cast_signed();
        }
    };
    fill(&mut info.bus_id, &address);
    fill(&mut info.bus_id_legacy, address.get(4..).unwrap_or_default());
    Ok(info)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v2(device: Handle, to: *mut PciInfo) -> c_uint {
    unsafe { give(pci_info("nvmlDeviceGetPciInfo_v2", device), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device: Handle, to: *mut PciInfo) -> c_uint {
    unsafe { give(pci_info("nvmlDeviceGetPciInfo_v3", device), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Handle,
    _error: c_uint,
    _counter: c_uint,
    to: *mut c_ulonglong,
) -> c_uint {
    let found = gpu("nvmlDeviceGetTotalEccErrors", device);
    unsafe { give(of(found, |gpu| &gpu.ecc_uncorrected), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: Handle,
    _sensor: c_uint,
    to: *mut c_uint,
) -> c_uint {
    unsafe { give(of(gpu("nvmlDeviceGetTemperature", device), |gpu| &gpu.temperature), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: Handle,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_uint {
    let mode = of(gpu("nvmlDeviceGetMigMode", device), |gpu| &gpu.mig).map(c_uint::from);
    match unsafe { give(mode, current) } {
        0 => unsafe { give(mode, pending) },
        code => code,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: Handle,
    major: *mut c_int,
    minor: *mut c_int,
) -> c_uint {
    let found = gpu("nvmlDeviceGetCudaComputeCapability", device).map(|(_, gpu)| gpu.capability);
    match unsafe { give(found.map(|(major, _)| major), major) } {
        0 => unsafe { give(found.map(|(_, minor)| minor), minor) },
        code => code,
    }
}

/// `nvmlMemory_t`
#[repr(C)]
pub struct Memory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlMemory_v2_t`
#[repr(C)]
pub struct MemoryV2 {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

fn memory(symbol: &str, device: Handle) -> Result<Memory, c_uint> {
    let (_, gpu) = gpu(symbol, device)?;
    let (total, used) = gpu.memory_total.zip(gpu.memory_used).ok_or(NOT_SUPPORTED)?;
    Ok(Memory { total, free: total.saturating_sub(used), used })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(device: Handle, to: *mut Memory) -> c_uint {
    unsafe { give(memory("nvmlDeviceGetMemoryInfo", device), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, to: *mut MemoryV2) -> c_uint {
    let memory = memory("nvmlDeviceGetMemoryInfo_v2", device).map(|memory| MemoryV2 {
        version: 0,
        total: memory.total,
        reserved: 0,
        free: memory.free,
        used: memory.used,
    });
    unsafe { give(memory, to) }
}

/// `nvmlProcessInfo_v2_t`, which the third version of the call fills too.
#[repr(C)]
pub struct ProcessInfo {
    pid: c_uint,
    used_gpu_memory: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

/// # Safety
///
/// `count` may be read and written; `to` is null or has room for that many.
unsafe fn processes(
    symbol: &str,
    device: Handle,
    count: *mut c_uint,
    to: *mut ProcessInfo,
) -> c_uint {
    let pids = match of(gpu(symbol, device), |gpu| &gpu.processes) {
        Ok(pids) => pids,
        Err(code) => return code,
    };
    let room = unsafe { count.replace(c_uint::try_from(pids.len()).unwrap_or(c_uint::MAX)) };
    if pids.len() > room as usize || (to.is_null() && !pids.is_empty()) {
        return INSUFFICIENT_SIZE;
    }
    for (n, pid) in pids.into_iter().enumerate() {
        let none = c_uint::MAX;
        let info = ProcessInfo {
            pid,
            used_gpu_memory: 1 << 30,
            gpu_instance: none,
            compute_instance: none,
        };
        unsafe { to.add(n).write(info) };
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v2(
    device: Handle,
    count: *mut c_uint,
    to: *mut ProcessInfo,
) -> c_uint {
    unsafe { processes("nvmlDeviceGetComputeRunningProcesses_v2", device, count, to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: *mut c_uint,
    to: *mut ProcessInfo,
) -> c_uint {
    unsafe { processes("nvmlDeviceGetComputeRunningProcesses_v3", device, count, to) }
}

/// The first version has smaller records; only "none" is played.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses(
    device: Handle,
    count: *mut c_uint,
    _to: *mut c_void,
) -> c_uint {
    let found = gpu("nvmlDeviceGetComputeRunningProcesses", device);
    unsafe { give(found.map(|_| 0), count) }
}

/// `nvmlFieldValue_t`
#[repr(C)]
pub struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp: c_longlong,
    latency: c_longlong,
    value_type: c_uint,
    result: c_uint,
    value: c_ulonglong,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: Handle,
    count: c_int,
    values: *mut FieldValue,
) -> c_uint {
    let gpu = match gpu("nvmlDeviceGetFieldValues", device) {
        Ok((_, gpu)) => gpu,
        Err(code) => return code,
    };
    for n in 0..usize::try_from(count).unwrap_or(0) {
        let slot = unsafe { &mut *values.add(n) };
        let value = match slot.field {
            142 => gpu.remapped_correctable,
            143 => gpu.remapped_uncorrectable,
            144 => gpu.remap_pending.map(c_uint::from),
            145 => gpu.remap_failed.map(c_uint::from),
            230 => gpu.recovery_action,
            _ => None,
        };
        // NVML_VALUE_TYPE_UNSIGNED_INT
        slot.value_type = 1;
        slot.result = if value.is_some() { 0 } else { NOT_SUPPORTED };
        slot.value = value.unwrap_or(0).into();
    }
    0
}

// ---- links between GPUs, as libraries of collectives ask for them: there are none

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetP2PStatus(
    device: Handle,
    _other: Handle,
    _what: c_uint,
    to: *mut c_uint,
) -> c_uint {
    unsafe { give(gpu("nvmlDeviceGetP2PStatus", device).map(|_| 0), to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkState(
    device: Handle,
    _link: c_uint,
    _to: *mut c_uint,
) -> c_uint {
    gpu("nvmlDeviceGetNvLinkState", device).map_or_else(|code| code, |_| NOT_SUPPORTED)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkCapability(
    device: Handle,
    _link: c_uint,
    _what: c_uint,
    _to: *mut c_uint,
) -> c_uint {
    gpu("nvmlDeviceGetNvLinkCapability", device).map_or_else(|code| code, |_| NOT_SUPPORTED)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkRemoteDeviceType(
    device: Handle,
    _link: c_uint,
    _to: *mut c_uint,
) -> c_uint {
    gpu("nvmlDeviceGetNvLinkRemoteDeviceType", device).map_or_else(|code| code, |_| NOT_SUPPORTED)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: Handle,
    _link: c_uint,
    _to: *mut PciInfo,
) -> c_uint {
    gpu("nvmlDeviceGetNvLinkRemotePciInfo_v2", device).map_or_else(|code| code, |_| NOT_SUPPORTED)
}

// ---- events

/// `nvmlEventData_t`
#[repr(C)]
pub struct EventData {
    device: Handle,
    kind: c_ulonglong,
    data: c_ulonglong,
    gpu_instance: c_uint,
    compute_instance: c_uint,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(to: *mut Handle) -> c_uint {
    let code = enter_later("nvmlEventSetCreate", None);
    unsafe { give(if code == 0 { Ok(handle(0)) } else { Err(code) }, to) }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(_set: Handle) -> c_uint {
    enter_later("nvmlEventSetFree", None)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: Handle,
    _types: c_ulonglong,
    _set: Handle,
) -> c_uint {
    gpu("nvmlDeviceRegisterEvents", device).map_or_else(|code| code, |_| 0)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    _set: Handle,
    to: *mut EventData,
    millis: c_uint,
) -> c_uint {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    match enter_later("nvmlEventSetWait_v2", None) {
        0 => {}
        code => return code,
    }
    let Some(event) = script().events.get(NEXT.fetch_add(1, Ordering::Relaxed)) else {
        std::thread::sleep(Duration::from_millis(millis.into()));
        return TIMEOUT;
    };
    let data = EventData {
        device: handle(event.device),
        kind: event.r#type,
        data: event.data,
        gpu_instance: c_uint::MAX,
        compute_instance: c_uint::MAX,
    };
    unsafe { give(Ok(data), to) }
}
