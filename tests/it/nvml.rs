//! The probe of NVML and CUDA, against doubles that do everything a driver was ever seen to do, and
//! against NVIDIA's own library where it can be had.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nvlaunch::host::depth::Depth;
use nvlaunch::host::facts::nvidia::{Cuda, Death, Hang, Nvml, NvmlDevice, Probe, ResultCode};
use nvlaunch::host::process;
use nvlaunch::probe::{self, Settings};
use nvlaunch::settings::env::Env;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::doubles::marker;
use crate::harness::{SOON, nvlaunch, wait_until};

/// A deadline that a child which hangs is given, and how much later the answer may come on a busy
/// machine.
const SHORT: Duration = Duration::from_secs(2);

/// The double's library; Cargo builds it with the tests.
pub fn fake() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own program");
    let target = test.ancestors().nth(2).expect("target/PROFILE/deps/it");
    let path = target.join("examples/libfake_nvml.so");
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    path
}

/// A probe of a library, with a folder of its own.
struct Stage {
    dir: TempDir,
    settings: Settings,
}

impl Stage {
    fn new(library: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::new(dir.path(), &Env::default(), Depth::Full);
        settings.library = Some(library.to_owned());
        settings.program = PathBuf::from(nvlaunch());
        // Long enough for any machine: only what hangs gets there.
        settings.deadline = Duration::from_secs(60);
        Self { dir, settings }
    }

    /// The double, with this script.
    fn play(script: &Value) -> Self {
        let stage = Self::new(&fake());
        std::fs::write(stage.script(), script.to_string()).expect("a script");
        let script = stage.script();
        stage.env("FAKE_NVML_SCRIPT", script)
    }

    fn script(&self) -> PathBuf {
        self.dir.path().join("nvml.json")
    }

    fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.settings.env.0.push((name.into(), value.into()));
        self
    }

    fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    fn depth(mut self, depth: Depth) -> Self {
        self.settings.depth = depth;
        self
    }

    fn ask(&self) -> Probe<Nvml> {
        let answer = probe::nvml(&self.settings);
        assert_eq!(self.children(), [0i32; 0], "a child is left");
        answer
    }

    fn answer(&self) -> Nvml {
        match self.ask() {
            Probe::Answered(answer) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    fn hang(self) -> Hang {
        let stage = self.deadline(SHORT);
        let since = Instant::now();
        let hang = match stage.ask() {
            Probe::Hung(hang) => hang,
            other => panic!("it hangs: {other:?}"),
        };
        let took = since.elapsed();
        assert!((SHORT..SHORT + SOON).contains(&took), "it took {took:?}");
        assert!(u128::from(hang.after_ms) >= SHORT.as_millis(), "{hang:?}");
        assert_eq!((hang.process_state, hang.survived_kill), (Some('S'), false), "{hang:?}");
        hang
    }

    fn death(&self) -> Death {
        match self.ask() {
            Probe::Died(death) => death,
            other => panic!("it dies: {other:?}"),
        }
    }

    /// Living processes that were started for this script.
    fn children(&self) -> Vec<i32> {
        let script = self.script();
        let is_its = |pid: &i32| {
            process::environment_variable(*pid, "FAKE_NVML_SCRIPT").is_some_and(|v| v == script)
        };
        process::all_pids().into_iter().filter(is_its).collect()
    }
}

fn code(code: i32, text: &str) -> ResultCode {
    ResultCode { code, text: text.to_owned() }
}

/// Compiles C to a shared library, or says why that is not possible here.
fn compile(dir: &Path, name: &str, source: &str) -> Result<PathBuf, String> {
    let file = dir.join(name).with_extension("c");
    std::fs::write(&file, source).expect("a file");
    compile_file(dir, name, &file)
}

fn compile_file(dir: &Path, name: &str, source: &Path) -> Result<PathBuf, String> {
    let library = dir.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    let done = cc.output().map_err(|error| format!("no C compiler: {error}"))?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(library)
}

fn two_gpus() -> Value {
    json!({
        "driver_version": "580.95.05", "nvml_version": "13.580.95.05", "cuda_version": 13000,
        "count": 2,
    })
}

/// The script with more keys.
fn with(mut script: Value, more: Value) -> Value {
    let Value::Object(more) = more else { unreachable!("an object") };
    script.as_object_mut().expect("an object").extend(more);
    script
}

#[test]
fn a_healthy_machine_is_described_in_full() {
    let script = with(
        two_gpus(),
        json!({"devices": [
            {
                "pci": "00000000:3B:00.0", "uuid": "GPU-1", "name": "NVIDIA RTX A6000", "brand": 13,
                "persistence": false, "compute_mode": "exclusive_process", "mig": true,
                "temperature": 81, "throttle_reasons": 0x40, "ecc_uncorrected": 3,
                "remapped_correctable": 1, "remapped_uncorrectable": 2, "remap_pending": true,
                "remap_failed": true, "recovery_action": 2, "processes": [11, 12],
                "memory_total": 48 * 1024, "memory_used": 1024
            },
            {
                "pci": "00010000:DC:00.0", "uuid": null, "name": null, "brand": null,
                "persistence": null, "compute_mode": null, "mig": null, "temperature": null,
                "throttle_reasons": null, "ecc_uncorrected": null, "remapped_correctable": null,
                "remapped_uncorrectable": null, "remap_pending": null, "remap_failed": null,
                "recovery_action": null, "processes": null, "memory_total": null
            }
        ]}),
    );
    let answer = Stage::play(&script).answer();
    let library = fake().canonicalize().expect("it is there");
    assert_eq!(answer.library.as_deref(), library.to_str());
    assert_eq!(answer.init, code(0, "Success"));
    assert_eq!(answer.driver_version.as_deref(), Some("580.95.05"));
    assert_eq!(answer.nvml_version.as_deref(), Some("13.580.95.05"));
    assert_eq!((answer.cuda_version, answer.device_count), (Some(13000), Some(2)));
    assert_eq!(answer.errors, []);
    let [first, second] = &answer.devices[..] else { panic!("{:?}", answer.devices) };
    let expected = NvmlDevice {
        index: 0,
        error: None,
        uuid: Some("GPU-1".into()),
        address: Some("0000:3b:00.0".into()),
        name: Some("NVIDIA RTX A6000".into()),
        brand: Some(13),
        persistence: Some(false),
        compute_mode: Some("exclusive_process".into()),
        ecc_uncorrected: Some(3),
        remapped_correctable: Some(1),
        remapped_uncorrectable: Some(2),
        remap_pending: Some(true),
        remap_failed: Some(true),
        recovery_action: Some(2),
        throttle_reasons: Some(0x40),
        temperature: Some(81),
        mig: Some(true),
        processes: vec![11, 12],
        memory_used: Some(1024),
        memory_total: Some(48 * 1024),
        open_ms: first.open_ms,
    };
    assert_eq!(*first, expected);
    assert!(first.open_ms.is_some());
    let nothing = NvmlDevice {
        index: 1,
        address: Some("10000:dc:00.0".into()),
        open_ms: second.open_ms,
        ..NvmlDevice::default()
    };
    assert_eq!(*second, nothing, "what a GPU does not support is no error");
}

#[test]
fn a_launch_asks_less() {
    let script =
        with(two_gpus(), json!({"hang": ["nvmlDeviceGetBrand", "nvmlDeviceGetTemperature"]}));
    let answer = Stage::play(&script).depth(Depth::Launch).answer();
    let device = &answer.devices[1];
    assert_eq!(device.address.as_deref(), Some("0000:02:00.0"));
    assert_eq!((device.persistence, device.recovery_action), (Some(true), Some(0)));
    assert_eq!((device.brand, device.temperature, device.memory_total), (None, None, None));
}

#[test]
fn every_result_of_init_is_told_as_it_is() {
    for number in (1..=30).chain([999]) {
        let answer = Stage::play(&json!({"init": number, "count": 2})).answer();
        assert_eq!(answer.init.code, number);
        assert!(!answer.init.text.is_empty());
        assert_eq!((answer.device_count, answer.devices.len()), (None, 0));
        assert!(answer.library.is_some(), "after a failed init the library is known too");
    }
    let answer = Stage::play(&json!({"init": 18})).answer();
    assert_eq!(answer.init, code(18, "Driver/library version mismatch"));
}

/// The stages that a healthy probe goes through, as the child itself says.
fn stages() -> Vec<String> {
    let stage = Stage::play(&two_gpus());
    let mut child = Command::new(nvlaunch());
    child.args(["__probe", "nvml", "--depth", "full", "--library"]).arg(fake());
    child.env("FAKE_NVML_SCRIPT", stage.script());
    let said = child.output().expect("it starts").stdout;
    let said = String::from_utf8(said).expect("text");
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| Some(line.get("stage")?.as_str()?.to_owned())).collect()
}

#[test]
fn a_hang_at_any_call_is_named_and_leaves_nothing() {
    let stages = stages();
    assert_eq!(stages.len(), 5 + 2 * 14, "{stages:?}");
    assert_eq!(stages[5], "nvmlDeviceGetHandleByIndex_v2(0)");
    // Those of the second GPU are the same calls.
    for names in stages[..19].chunks(4) {
        std::thread::scope(|scope| {
            for name in names {
                scope.spawn(move || {
                    let hang = Stage::play(&with(two_gpus(), json!({"hang": name}))).hang();
                    // The wrapper asks for the driver's version within init.
                    let is_within = name == "nvmlSystemGetDriverVersion";
                    let named = if is_within { "nvmlInit_v2" } else { name.as_str() };
                    assert_eq!(hang.stage, named);
                });
            }
        });
    }
    let name = "nvmlDeviceGetHandleByIndex_v2(1)";
    assert_eq!(Stage::play(&with(two_gpus(), json!({"hang": name}))).hang().stage, name);
}

#[test]
fn slow_is_no_hang() {
    let script = with(two_gpus(), json!({"slow": {"nvmlDeviceGetHandleByIndex_v2(1)": 300}}));
    let answer = Stage::play(&script).answer();
    assert!(answer.devices[1].open_ms.is_some_and(|ms| ms >= 300), "{:?}", answer.devices[1]);
    assert!(answer.took_ms >= 300);
}

#[test]
fn a_crash_is_named_with_its_last_words() {
    for (how, exit) in [
        ("segv", "SIGSEGV (invalid memory access)"),
        ("abort", "SIGABRT (the program aborted itself)"),
        ("exit", "exit code 3"),
    ] {
        for name in ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetUUID(1)"] {
            let script = with(two_gpus(), json!({how: name, "stderr": "NVML: assertion\n"}));
            let death = Stage::play(&script).death();
            assert_eq!((death.stage.as_str(), death.exit.as_str()), (name, exit));
            assert_eq!(death.stderr.last().map(String::as_str), Some("NVML: assertion"));
            assert!(death.stderr.len() <= 10);
        }
    }
}

#[test]
fn a_chatty_library_breaks_nothing() {
    let quiet = Stage::play(&two_gpus()).answer();
    for text in ["no line's end", "{\"stage\":\"x\"}\n", "{\"answer\":{}}\n", "\u{0}\n\n\u{1b}[2J"]
    {
        let noise = json!({"stdout": text.repeat(500), "stderr": text.repeat(500)});
        let mut loud = Stage::play(&with(two_gpus(), noise)).answer();
        loud.took_ms = quiet.took_ms;
        for (loud, quiet) in loud.devices.iter_mut().zip(&quiet.devices) {
            loud.open_ms = quiet.open_ms;
        }
        assert_eq!(loud, quiet, "{text:?}");
    }
}

#[test]
fn one_lost_gpu_does_not_hide_the_others() {
    let lost = json!({"errors": {"nvmlDeviceGetHandleByIndex_v2": 15}});
    let script = with(two_gpus(), json!({"devices": [{}, lost, {}]}));
    let answer = Stage::play(&script).answer();
    assert_eq!(answer.device_count, Some(3));
    let error = |n: usize| answer.devices[n].error.clone();
    assert_eq!((error(0), error(2)), (None, None));
    let stage = "nvmlDeviceGetHandleByIndex_v2(1)".to_owned();
    assert_eq!(error(1), Some((stage, code(15, "GPU is lost"))));
    assert_eq!(answer.devices[2].address.as_deref(), Some("0000:03:00.0"));
}

#[test]
fn a_gpu_that_is_lost_meanwhile_is_asked_nothing_more() {
    let script = with(
        two_gpus(),
        json!({
            "devices": [{"errors": {"nvmlDeviceGetName": 15}}],
            "hang": ["nvmlDeviceGetPersistenceMode(0)", "nvmlDeviceGetMemoryInfo_v2(0)"],
        }),
    );
    let answer = Stage::play(&script).answer();
    let stage = "nvmlDeviceGetName(0)".to_owned();
    assert_eq!(answer.devices[0].error, Some((stage, code(15, "GPU is lost"))));
    assert!(answer.devices[0].uuid.is_some());
    assert_eq!(answer.devices[1].error, None);
}

#[test]
fn other_errors_of_one_call_do_not_end_the_questions() {
    let script = json!({
        "devices": [
            {"errors": {"nvmlDeviceGetComputeMode": 4, "nvmlDeviceGetMigMode": 16}},
            {"errors": {"nvmlDeviceGetComputeMode": 4}},
            {"errors": {"nvmlDeviceGetFieldValues": 25, "nvmlDeviceGetMigMode": 13}},
        ],
        "errors": {"nvmlDeviceGetCount_v2": 0, "nvmlSystemGetCudaDriverVersion_v2": 12},
    });
    let answer = Stage::play(&script).answer();
    let error =
        |n: usize| answer.devices[n].error.as_ref().map(|(call, code)| (call.as_str(), code.code));
    assert_eq!(error(0), Some(("nvmlDeviceGetMigMode(0)", 16)), "it weighs more than permission");
    assert_eq!(error(1), Some(("nvmlDeviceGetComputeMode(1)", 4)));
    assert_eq!(error(2), None, "a driver that does not have a call is not broken");
    assert!(answer.devices.iter().all(|device| device.temperature == Some(35)));
    let of_machine: Vec<_> =
        answer.errors.iter().map(|(call, code)| (call.as_str(), code.code)).collect();
    assert_eq!(of_machine, [("nvmlSystemGetCudaDriverVersion_v2", 12)]);
    let uncounted =
        Stage::play(&json!({"count": 2, "errors": {"nvmlDeviceGetCount_v2": 999}})).answer();
    assert_eq!((uncounted.device_count, uncounted.devices.len()), (None, 0));
    assert_eq!(uncounted.errors, [("nvmlDeviceGetCount_v2".into(), code(999, "Unknown Error"))]);
}

#[test]
fn many_gpus_are_all_there() {
    let processes: Vec<u32> = (1..=200).collect();
    let devices = vec![json!({"processes": processes}); 64];
    let since = Instant::now();
    let answer = Stage::play(&with(two_gpus(), json!({"devices": devices}))).answer();
    println!("64 GPUs: {:?} in all, {} ms of them in the child", since.elapsed(), answer.took_ms);
    assert_eq!(answer.devices.len(), 64);
    for (n, device) in answer.devices.iter().enumerate() {
        assert_eq!(device.address, Some(format!("0000:{:02x}:00.0", n + 1)));
    }
    assert!(answer.devices.iter().all(|device| device.processes.len() == 200));
}

#[test]
fn nothing_is_waited_for_after_the_answer() {
    let since = Instant::now();
    let answer = Stage::play(&with(two_gpus(), json!({"hang": "nvmlShutdown"}))).answer();
    assert_eq!(answer.devices.len(), 2);
    assert!(since.elapsed() < SOON);
}

#[test]
fn what_is_no_library_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("empty.so"), "").expect("a file");
    std::fs::write(path("text.so"), "#!/bin/sh\n".repeat(1000)).expect("a file");
    let whole = std::fs::read(fake()).expect("it is there");
    std::fs::write(path("cut.so"), &whole[..5000]).expect("a file");
    std::os::unix::fs::symlink("nowhere", path("dangling.so")).expect("a link");
    std::fs::create_dir(path("folder.so")).expect("a folder");
    for (name, why) in [
        ("empty.so", "file too short"),
        ("text.so", "invalid ELF header"),
        ("dangling.so", "No such file"),
        ("folder.so", "folder.so: cannot"),
        ("with space.so", "No such file"),
    ] {
        let answer = Stage::new(&path(name)).answer();
        assert_eq!(answer.init.code, -1, "{name}: {answer:?}");
        assert!(answer.init.text.contains(why), "{name}: {}", answer.init.text);
        assert_eq!(answer.library, None);
    }
    // Where the linker maps a part that the file does not have, it crashes itself.
    match Stage::new(&path("cut.so")).ask() {
        Probe::Answered(answer) => assert_eq!(answer.init.code, -1),
        Probe::Died(death) => assert!(death.stage.starts_with("dlopen "), "{death:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_library_may_lack_all_but_init_and_misbehave_while_it_is_loaded() {
    let dir = tempfile::tempdir().expect("a folder");
    let bare = "unsigned nvmlInit_v2(void) { return 0; } unsigned nvmlShutdown(void) { return 0; }";
    let bare = match compile(dir.path(), "bare.so", bare) {
        Ok(library) => library,
        Err(why) => return println!("skipped: {why}"),
    };
    let answer = Stage::new(&bare).answer();
    assert_eq!((answer.init.code, answer.device_count, answer.errors.len()), (0, None, 0));
    let library =
        |name: &str, source: &str| compile(dir.path(), name, source).expect("it compiled before");

    let other = library("other.so", "int something(void) { return 0; }");
    let answer = Stage::new(&other).answer();
    assert_eq!(answer.init.code, 13, "{answer:?}");
    assert!(answer.init.text.contains("nvmlInit_v2"), "{}", answer.init.text);

    let init =
        "#include <unistd.h>\n#include <stdlib.h>\nunsigned nvmlInit_v2(void) { return 9; }\n";
    let at_start = "__attribute__((constructor)) static void start(void)";
    let at_end = "__attribute__((destructor)) static void end(void)";

    let hangs = library("hangs.so", &format!("{init}{at_start} {{ for (;;) pause(); }}"));
    let stage = format!("dlopen {}", hangs.display());
    assert_eq!(Stage::new(&hangs).hang().stage, stage);
    let dies = library("dies.so", &format!("{init}{at_start} {{ abort(); }}"));
    assert_eq!(Stage::new(&dies).death().stage, format!("dlopen {}", dies.display()));
    let talks = format!(
        "{init}{at_start} {{ write(1, \"{{\\\"stage\\\":\", 9); write(1, \"x\\ny\", 3); }}"
    );
    let talks = talks.replace("return 9;", "for (;;) pause();");
    assert_eq!(Stage::new(&library("talks.so", &talks)).hang().stage, "nvmlInit_v2");
    let stays = library("stays.so", &format!("{init}{at_end} {{ for (;;) pause(); }}"));
    assert_eq!(Stage::new(&stays).answer().init.code, 9);
}

#[test]
fn a_script_that_is_none_is_said_by_the_double() {
    let stage = Stage::play(&json!({"devises": []}));
    let death = stage.death();
    assert_eq!(death.stage, "nvmlInit_v2");
    assert!(death.stderr.iter().any(|line| line.contains("unknown field `devises`")), "{death:?}");
}

#[test]
fn a_child_dies_with_its_parent() {
    let stage = Stage::play(&with(two_gpus(), json!({"hang": "nvmlInit_v2"})));
    // The shell waits, and is the parent; `$$` is its id.
    let script = "\"$0\" __probe nvml --parent $$ --library \"$1\" & wait";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).arg(nvlaunch()).arg(fake()).process_group(0);
    shell.env("FAKE_NVML_SCRIPT", stage.script());
    shell.stdout(Stdio::null()).stderr(Stdio::null());
    let mut shell = Killed(shell.spawn().expect("a shell"));
    let pid = i32::try_from(shell.0.id()).expect("a process id fits");
    let child = || stage.children().into_iter().find(|&child| child != pid);
    let leads = |child: i32| process::look(child).is_some_and(|p| p.session == child);
    wait_until("the child leads its session", SOON, || child().is_some_and(leads));
    shell.0.kill().expect("it runs");
    shell.0.wait().expect("it is ours");
    wait_until("the child is gone", SOON, || stage.children().is_empty());
}

/// A process that no failed test leaves behind.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// See `stuck.rs`: a process that takes no KILL before it is thawed.
#[test]
fn a_child_that_cannot_be_killed_is_left() {
    let group = match Cgroup::make("freezer", &marker()) {
        Ok(group) => group,
        Err(why) => return println!("skipped: {why}"),
    };
    let deadline = Duration::from_secs(3);
    let script = with(two_gpus(), json!({"hang": "nvmlDeviceGetCount_v2"}));
    let stage = Stage::play(&script).deadline(deadline);
    let since = Instant::now();
    let (answer, pid) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| probe::nvml(&stage.settings));
        let mut child = None;
        wait_until("the child hangs", SOON, || {
            child = stage.children().first().copied();
            child.and_then(process::look).is_some_and(|p| p.state == 'S')
        });
        let pid = child.expect("it was just seen");
        group.set("cgroup.procs", &pid.to_string()).expect("it can enter");
        group.set("freezer.state", "FROZEN").expect("it can be frozen");
        (asked.join().expect("it returns"), pid)
    });
    let took = since.elapsed();
    let Probe::Hung(hang) = answer else { panic!("it hung: {answer:?}") };
    assert!((deadline..deadline + SOON).contains(&took), "it took {took:?}");
    assert_eq!((hang.stage.as_str(), hang.survived_kill), ("nvmlDeviceGetCount_v2", true));
    println!("left in state {:?}, in {:?}, after {took:?}", hang.process_state, hang.waits_in);
    group.set("freezer.state", "THAWED").expect("it can be thawed");
    wait_until("it is reaped", SOON, || process::look(pid).is_none());
}

// ---- CUDA

const CUDA: &str = r#"
#include <stdlib.h>
#include <unistd.h>
static int value(const char *name, int otherwise)
{
    return getenv(name) ? atoi(getenv(name)) : otherwise;
}
int cuInit(unsigned flags)
{
    write(1, "noise", 5);
    if (getenv("FAKE_CUDA_HANG"))
        for (;;)
            pause();
    if (getenv("FAKE_CUDA_ABORT"))
        abort();
    return value("FAKE_CUDA_INIT", flags);
}
int cuDriverGetVersion(int *to) { *to = 13000; return 0; }
int cuDeviceGetCount(int *to) { *to = 3; return 0; }
int cuGetErrorName(int code, const char **to)
{
    *to = code == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : "CUDA_SUCCESS";
    return 0;
}
"#;

#[test]
fn cuda_is_asked_by_the_interpreter() {
    let dir = tempfile::tempdir().expect("a folder");
    let library = match compile(dir.path(), "libcuda.so.1", CUDA) {
        Ok(library) => library,
        Err(why) => return println!("skipped: {why}"),
    };
    let ask = |library: &Path, deadline: Duration, env: &[(&str, &str)]| {
        let mut settings = Settings::new(dir.path(), &env.iter().copied().collect(), Depth::Full);
        settings.cuda_library = Some(library.to_owned());
        settings.interpreter = Some(crate::harness::venv("python"));
        settings.deadline = deadline;
        probe::cuda(&settings)
    };
    let long = Duration::from_secs(60);
    let healthy = Cuda {
        init: code(0, "CUDA_SUCCESS"),
        library: library.canonicalize().expect("it is there").to_str().map(str::to_owned),
        driver_version: Some(13000),
        device_count: Some(3),
    };
    assert_eq!(ask(&library, long, &[]), Probe::Answered(healthy.clone()));
    let mismatch = Cuda {
        init: code(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        device_count: None,
        ..healthy
    };
    assert_eq!(ask(&library, long, &[("FAKE_CUDA_INIT", "803")]), Probe::Answered(mismatch));
    let Probe::Hung(hang) = ask(&library, 3 * SHORT, &[("FAKE_CUDA_HANG", "1")]) else {
        panic!("it hangs")
    };
    assert_eq!((hang.stage.as_str(), hang.survived_kill), ("cuInit", false));
    let Probe::Died(death) = ask(&library, long, &[("FAKE_CUDA_ABORT", "1")]) else {
        panic!("it dies")
    };
    assert_eq!((death.stage.as_str(), &death.exit[..7]), ("cuInit", "SIGABRT"));
    match ask(&dir.path().join("nowhere.so"), long, &[]) {
        Probe::Answered(Cuda { init, .. }) => {
            assert_eq!(init.code, -1);
            assert!(init.text.contains("nowhere.so: cannot open"), "{}", init.text);
        }
        other => panic!("{other:?}"),
    }
}

// ---- NVIDIA's own library

/// Versions of the genuine library and their folders, or why there are none.
fn genuine() -> Result<Vec<(String, PathBuf)>, String> {
    if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        return Err("the stand-in for the kernel module is for x86-64 with glibc".into());
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fetch_nvml.py");
    let done = Command::new("python3").arg(tool).output().map_err(|e| format!("python3: {e}"))?;
    if done.status.code() == Some(3) {
        return Err(String::from_utf8_lossy(&done.stderr).trim().to_owned());
    }
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).expect("text");
    let pairs = said.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(version, folder)| (version.to_owned(), PathBuf::from(folder))).collect())
}

#[test]
fn the_genuine_library_tells_another_version_of_the_module_from_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel_gate.c");
    let versions = genuine().and_then(|versions| {
        let gate = compile_file(dir.path(), "kernel_gate.so", &source)?;
        Ok((versions, gate))
    });
    let (versions, gate) = match versions {
        Ok(found) => found,
        Err(why) => return println!("skipped: {why}"),
    };
    let modules = versions.iter().map(|(version, _)| version.as_str()).chain(["580.82.09"]);
    let modules: Vec<&str> = modules.collect();
    for (version, folder) in &versions {
        let file = folder.join(format!("libnvidia-ml.so.{version}"));
        for module in &modules {
            let stage = Stage::new(&folder.join("libnvidia-ml.so.1"))
                .env("LD_PRELOAD", gate.as_os_str())
                .env("KVER", *module);
            let answer = stage.answer();
            let expected = if module == version {
                code(9, "Driver Not Loaded")
            } else {
                code(18, "Driver/library version mismatch")
            };
            assert_eq!(answer.init, expected, "library {version}, module {module}");
            assert_eq!(answer.library.as_deref(), file.to_str());
            println!(
                "library {version}, module {module}: {} in {} ms",
                answer.init.code, answer.took_ms
            );
        }
    }
    assert!(!Path::new("/dev/nvidiactl").exists() || Path::new("/proc/driver/nvidia").exists());
}

#[test]
fn the_words_for_a_result_are_those_of_the_genuine_library() {
    let versions = match genuine() {
        Ok(versions) => versions,
        Err(why) => return println!("skipped: {why}"),
    };
    let (version, folder) = versions.last().expect("a version");
    let script = "import ctypes, sys\n\
        text = ctypes.CDLL(sys.argv[1]).nvmlErrorString\n\
        text.restype = ctypes.c_char_p\n\
        for code in [*range(31), 999]: print(text(code).decode())\n";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(folder.join("libnvidia-ml.so.1"));
    let done = python.output().expect("python3 was just run");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).expect("text");
    for (number, text) in (0..=30).chain([999]).zip(said.lines()) {
        let answer = Stage::play(&json!({"init": number})).answer();
        assert_eq!(answer.init.text, text, "code {number}, libnvidia-ml {version}");
    }
}
