//! A test double of NVIDIA's `libnvidia-ml.so.1`, played from a JSON file.
//!
//! `FAKE_NVML_SCRIPT` names the file; the library itself is given to nvlaunch by
//! `NVLAUNCH_NVML_LIB`, or to any other program as `libnvidia-ml.so.1` in a folder of its
//! `LD_LIBRARY_PATH`. Without a script it behaves as on a machine without a driver: `nvmlInit` is 9.
//! A script that cannot be read, or has an unknown key, is said on stderr and aborts.
//!
//! Every key is optional. A healthy machine with two GPUs, the second of them lost:
//!
//! ```json
//! {
//!   "init": 0,
//!   "driver_version": "580.95.05", "nvml_version": "13.580.95.05", "cuda_version": 13000,
//!   "devices": [
//!     {"pci": "00000000:3B:00.0", "uuid": "GPU-6c9e…", "name": "NVIDIA RTX A6000", "brand": 13},
//!     {"pci": "00000000:5E:00.0", "errors": {"nvmlDeviceGetHandleByIndex_v2": 15}}
//!   ]
//! }
//! ```
//!
//! Of the machine:
//!
//! - `init`: result of `nvmlInit`, `nvmlInit_v2` and `nvmlInitWithFlags`; 0
//! - `driver_version`, `nvml_version`, `cuda_version`: as above; the first and the third are there
//!   after a successful init only, the second always
//! - `devices`: the GPUs in NVML's order; `count`: their number where it is larger than the list,
//!   which is then filled with healthy ones
//! - `errors`: results of single calls, as `{"nvmlDeviceGetCount_v2": 999}`
//! - `hang`, `abort`, `segv`, `exit`: a call, or a list of calls, that never return, abort, crash, or
//!   end the process with status 3
//! - `slow`: milliseconds that calls take, as `{"nvmlInit_v2": 300}`
//! - `stdout`, `stderr`: texts that every call writes there, as they stand
//! - `events`: what `nvmlEventSetWait_v2` hands out, in this order, and then it times out:
//!   `{"device": 0, "type": 8, "data": 79}`; 8 is `nvmlEventTypeXidCriticalError`, 79 the Xid
//!
//! A call is a symbol, as `nvmlInit_v2`, or a symbol at one GPU, as
//! `nvmlDeviceGetHandleByIndex_v2(1)`.
//!
//! Of a GPU, with what it is where the key is absent; `null` makes the call return 3 (not
//! supported):
//!
//! - `pci`: `00000000:01:00.0`, by index; `uuid`: `GPU-00000000-0000-0000-0000-000000000000`, by
//!   index; `name`: `NVIDIA A100-SXM4-80GB`; `brand`: 14; `minor`: the index;
//!   `capability`: `[8, 0]`
//! - `persistence`: true; `compute_mode`: `default`, or `exclusive_process`, `prohibited`;
//!   `mig`: false; `temperature`: 35; `throttle_reasons`: 1
//! - `ecc_uncorrected`: 0; `remapped_correctable`, `remapped_uncorrectable`: 0; `remap_pending`,
//!   `remap_failed`: false; `recovery_action`: 0
//! - `processes`: `[]`, process ids; `memory_total`: 85899345920; `memory_used`: 0
//! - `errors`: results of calls at this GPU, as above; the symbol `*` is all of them

#![expect(unsafe_code, reason = "it stands for a C library")]

#[path = "fake_nvml/calls.rs"]
mod calls;

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;

const NOT_INITIALISED: c_uint = 1;
const INVALID_ARGUMENT: c_uint = 2;
const NOT_SUPPORTED: c_uint = 3;
const NOT_FOUND: c_uint = 6;
const INSUFFICIENT_SIZE: c_uint = 7;
const NO_DRIVER: c_uint = 9;
const TIMEOUT: c_uint = 10;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Script {
    init: c_uint,
    driver_version: Option<String>,
    nvml_version: Option<String>,
    cuda_version: Option<c_int>,
    count: usize,
    devices: Vec<Gpu>,
    errors: BTreeMap<String, c_uint>,
    hang: Calls,
    abort: Calls,
    segv: Calls,
    exit: Calls,
    slow: BTreeMap<String, u64>,
    stdout: Option<String>,
    stderr: Option<String>,
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Calls {
    One(String),
    Many(Vec<String>),
}

impl Default for Calls {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Calls {
    fn have(&self, symbol: &str, at: &str) -> bool {
        let is = |call: &String| call == symbol || call == at;
        match self {
            Self::One(call) => is(call),
            Self::Many(calls) => calls.iter().any(is),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    device: usize,
    r#type: c_ulonglong,
    data: c_ulonglong,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gpu {
    pci: Option<String>,
    uuid: Option<String>,
    name: Option<String>,
    brand: Option<c_uint>,
    minor: Option<c_uint>,
    capability: (c_int, c_int),
    persistence: Option<bool>,
    compute_mode: Option<String>,
    mig: Option<bool>,
    temperature: Option<c_uint>,
    throttle_reasons: Option<c_ulonglong>,
    ecc_uncorrected: Option<c_ulonglong>,
    remapped_correctable: Option<c_uint>,
    remapped_uncorrectable: Option<c_uint>,
    remap_pending: Option<bool>,
    remap_failed: Option<bool>,
    recovery_action: Option<c_uint>,
    processes: Option<Vec<c_uint>>,
    memory_total: Option<c_ulonglong>,
    memory_used: Option<c_ulonglong>,
    errors: BTreeMap<String, c_uint>,
}

/// Stands where the script is silent and the index decides.
const BY_INDEX: &str = "";

impl Default for Gpu {
    fn default() -> Self {
        Self {
            pci: Some(BY_INDEX.into()),
            uuid: Some(BY_INDEX.into()),
            name: Some("NVIDIA A100-SXM4-80GB".into()),
            brand: Some(14),
            minor: None,
            capability: (8, 0),
            persistence: Some(true),
            compute_mode: Some("default".into()),
            mig: Some(false),
            temperature: Some(35),
            throttle_reasons: Some(1),
            ecc_uncorrected: Some(0),
            remapped_correctable: Some(0),
            remapped_uncorrectable: Some(0),
            remap_pending: Some(false),
            remap_failed: Some(false),
            recovery_action: Some(0),
            processes: Some(Vec::new()),
            memory_total: Some(80 << 30),
            memory_used: Some(0),
            errors: BTreeMap::new(),
        }
    }
}

fn script() -> &'static Script {
    static SCRIPT: OnceLock<Script> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let Some(path) = std::env::var_os("FAKE_NVML_SCRIPT") else {
            return Script { init: NO_DRIVER, ..Script::default() };
        };
        let text = std::fs::read(&path).unwrap_or_else(|error| give_up(&error));
        let mut script: Script =
            serde_json::from_slice(&text).unwrap_or_else(|error| give_up(&error));
        while script.devices.len() < script.count {
            script.devices.push(Gpu::default());
        }
        for (index, gpu) in script.devices.iter_mut().enumerate() {
            if gpu.pci.as_deref() == Some(BY_INDEX) {
                gpu.pci = Some(format!("00000000:{:02X}:00.0", index + 1));
            }
            if gpu.uuid.as_deref() == Some(BY_INDEX) {
                gpu.uuid = Some(format!("GPU-00000000-0000-0000-0000-{index:012x}"));
            }
            gpu.minor = gpu.minor.or(c_uint::try_from(index).ok());
        }
        script
    })
}

fn give_up(error: &dyn std::fmt::Display) -> ! {
    let _ = writeln!(std::io::stderr(), "fake_nvml: FAKE_NVML_SCRIPT: {error}");
    std::process::abort()
}

static IS_INITIALISED: AtomicBool = AtomicBool::new(false);

/// What the script does at this call; a result other than 0 is the call's.
fn enter(symbol: &str, index: Option<usize>) -> c_uint {
    let script = script();
    let mut at = symbol.to_owned();
    if let Some(index) = index {
        let _ = write!(at, "({index})");
    }
    if let Some(text) = &script.stdout {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
    if let Some(text) = &script.stderr {
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    if let Some(&millis) = script.slow.get(&at).or_else(|| script.slow.get(symbol)) {
        std::thread::sleep(Duration::from_millis(millis));
    }
    if script.hang.have(symbol, &at) {
        loop {
            std::thread::park();
        }
    }
    if script.abort.have(symbol, &at) {
        std::process::abort();
    }
    if script.segv.have(symbol, &at) {
        // Raising the signal would not do: the handler of Rust's runtime waits for the fault to come
        // again. Nothing is ever mapped there.
        unsafe { std::ptr::without_provenance_mut::<u8>(16).write_volatile(0) };
    }
    if script.exit.have(symbol, &at) {
        exit();
    }
    let gpu = index.and_then(|index| script.devices.get(index));
    let own = gpu.and_then(|gpu| gpu.errors.get(symbol).or_else(|| gpu.errors.get("*")));
    let said = own.or_else(|| script.errors.get(&at)).or_else(|| script.errors.get(symbol));
    said.copied().unwrap_or(0)
}

#[expect(clippy::exit, reason = "a library that ends its process is what is played")]
fn exit() -> ! {
    std::process::exit(3)
}

fn init(symbol: &str) -> c_uint {
    let code = match enter(symbol, None) {
        0 => script().init,
        code => code,
    };
    IS_INITIALISED.store(code == 0, Ordering::Relaxed);
    code
}

/// [`enter`] for a call that needs an init before it.
fn enter_later(symbol: &str, index: Option<usize>) -> c_uint {
    match enter(symbol, index) {
        0 if !IS_INITIALISED.load(Ordering::Relaxed) => NOT_INITIALISED,
        code => code,
    }
}

/// A handle is the index plus one.
type Handle = *mut c_void;

fn handle(index: usize) -> Handle {
    std::ptr::without_provenance_mut(index + 1)
}

/// [`enter_later`] at a GPU; the GPU, or the call's result.
fn gpu(symbol: &str, handle: Handle) -> Result<(usize, &'static Gpu), c_uint> {
    let index = handle.addr().checked_sub(1).ok_or(INVALID_ARGUMENT)?;
    let gpu = script().devices.get(index).ok_or(INVALID_ARGUMENT)?;
    match enter_later(symbol, Some(index)) {
        0 => Ok((index, gpu)),
        code => Err(code),
    }
}

/// Hands out a value, or says why not.
///
/// # Safety
///
/// `to` is null or may be written.
unsafe fn give<T>(value: Result<T, c_uint>, to: *mut T) -> c_uint {
    match value {
        Ok(_) if to.is_null() => INVALID_ARGUMENT,
        Ok(value) => {
            unsafe { to.write(value) };
            0
        }
        Err(code) => code,
    }
}

/// Hands out a text.
///
/// # Safety
///
/// `to` is null or has room for `room` bytes.
unsafe fn give_text(text: Result<&str, c_uint>, to: *mut c_char, room: c_uint) -> c_uint {
    match text {
        Ok(_) if to.is_null() => INVALID_ARGUMENT,
        Ok(text) if text.len() >= room as usize => INSUFFICIENT_SIZE,
        Ok(text) => {
            unsafe {
                to.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
                to.add(text.len()).write(0);
            }
            0
        }
        Err(code) => code,
    }
}

fn of<T: Clone>(
    found: Result<(usize, &Gpu), c_uint>,
    field: fn(&Gpu) -> &Option<T>,
) -> Result<T, c_uint> {
    field(found?.1).clone().ok_or(NOT_SUPPORTED)
}
