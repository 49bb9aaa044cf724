//! Scripts that insist on CUDA on a machine without it, as they are: with real `PyTorch` and real
//! `MMEngine`. Enflame's devices are a folder of files, and their plugin is a stand-in; nothing here
//! was run on a GCU.
//!
//! Where only the layer's way in matters, a package `torch` of a few lines stands in for `PyTorch`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{End, Job, venv};

/// For several ranks that import `PyTorch` on a busy machine.
const LONG: Duration = Duration::from_secs(300);
const FIELD: &str = include_str!("scripts/compat_field.py");
const BY_HAND: &str = include_str!("scripts/compat_by_hand.py");
const TORCH_GCU: &str = include_str!("scripts/compat_torch_gcu.py");

fn host(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name).join("root")
}

/// The packages of `.venvs/mmengine`, for `PYTHONPATH`.
fn mmengine() -> PathBuf {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venvs/mmengine/lib");
    let entries = std::fs::read_dir(&lib);
    let mut entries = entries.unwrap_or_else(|_| panic!("{}: run `make venv`", lib.display()));
    entries.next().expect("a folder").expect("an entry").path().join("site-packages")
}

/// What the layer said, without the ranks' prefix.
fn said(end: &End) -> Vec<&str> {
    let lines = end.stderr.lines();
    lines.filter_map(|line| Some(line.split_once("nvlaunch compat: ")?.1)).collect()
}

/// Folders of the layer that are left below the test's folder.
fn left(end: &End) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![end.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_folder = path.is_dir() && !path.is_symlink();
            if is_folder && name.contains("compat_") {
                found.push(path);
            } else if is_folder {
                folders.push(path);
            }
        }
    }
    found
}

/// A package in the place of `PyTorch`, of some release, in the folder `lib`.
fn with_torch(job: Job, version: &str, init: &str) -> Job {
    let torch = job.dir.path().join("lib/torch");
    std::fs::create_dir_all(torch).expect("a folder");
    let lib = job.dir.path().join("lib");
    let version = format!("__version__ = '{version}'\ncuda = None\nhip = None\n");
    job.file("lib/torch/version.py", &version)
        .file("lib/torch/__init__.py", init)
        .env("PYTHONPATH", lib)
}

/// As much of `PyTorch` as the layer looks at.
const SMALL_TORCH: &str = "
import sys, types
def module(name, **content):
    made = sys.modules[name] = types.ModuleType(name)
    vars(made).update(content)
    return made
def set_device(device):
    raise RuntimeError('Found no NVIDIA driver on your system.')
cuda = module('torch.cuda', is_available=lambda: False, set_device=set_device)
distributed = module('torch.distributed', is_available=lambda: False)
class DistributedDataParallel:
    def __init__(self, module, device_ids=None, output_device=None):
        pass
parallel = module('torch.nn.parallel', DistributedDataParallel=DistributedDataParallel)
nn = module('torch.nn', parallel=parallel)
";
const SMALL: &str = "import torch; torch.cuda.set_device(0); print('set')";

#[test]
fn the_script_of_the_field_report_trains_on_eight_ranks() {
    let job = Job::new().args(["--profile", "gcu-t20", "--nproc", "8", "--log-dir", "logs"]);
    let job = job.arg("--sysroot").arg(host("gcu-t20-mmengine-cuda-torch"));
    let end = job.env("PYTHONPATH", mmengine()).script(FIELD).run_within(LONG).expect_code(0);
    for rank in 0..8 {
        let line =
            format!("[rank {rank}] 🔧 分布式环境初始化完成 - Rank {rank}/8, Backend: gloo\n");
        assert_eq!(end.stdout.matches(&line).count(), 1, "{line}{}", end.stdout);
    }
    let trained = "] trained MMDistributedDataParallel True ";
    assert_eq!(end.stdout.matches(trained).count(), 8, "{}", end.stdout);
    assert!(end.path("work_dir/epoch_2.pth").exists());
    // Said by nvlaunch, which knew it before the start.
    assert_eq!(end.stderr.matches("THE GCUS ARE NOT USED").count(), 1, "{}", end.stderr);
    assert_eq!(
        said(&end),
        [
            "compat gcu: PyTorch finds no CUDA device here, so this is changed:",
            "  torch.cuda.set_device does nothing",
            "  init_process_group and new_group with a backend that cannot work here take gloo",
            "  DistributedDataParallel drops device_ids and output_device for modules on the CPU",
            "the backend nccl cannot work here: gloo takes its place",
        ]
    );
    assert_eq!(left(&end), [""; 0].map(PathBuf::from));
}

#[test]
fn without_the_layer_it_ends_as_in_the_field_report() {
    let job = Job::new().args(["--profile", "gcu-t20", "--nproc", "8", "--compat", "auto"]);
    let job = job.arg("--sysroot").arg(host("gcu-t20-mmengine-cuda-torch"));
    let end = job.env("PYTHONPATH", mmengine()).script(FIELD).run_within(LONG).expect_code(1);
    for text in [
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA \
         GPU",
        "line 130, in _init_dist_pytorch",
        "before the job preflight found NVL090: MMEngine 0.10.5 calls torch.cuda.set_device",
        "hint: the script insists on CUDA, which is not here: --compat gcu starts it as it is",
    ] {
        assert!(end.stderr.contains(text), "{text}\n{}", end.stderr);
    }
    assert_eq!(said(&end), [""; 0]);
}

/// What is changed stands in the plan before it is done.
#[test]
fn the_plan_says_what_is_changed() {
    let planned = |words: &[&str]| {
        let job = Job::new().arg("plan").args(words).file("train.py", "");
        let job = job.arg("--sysroot").arg(host("gcu-t20-mmengine-torch-gcu"));
        job.args(["--nproc", "2", "train.py"]).env("PYTHONPATH", "/opt/mine").run().expect_code(0)
    };
    let json = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&planned(&[&["--json"], words].concat()).stdout).expect("JSON")
    };
    let plan = json(&["--profile", "gcu-t20"]);
    let compat = &plan["compat"];
    assert_eq!((&compat["on"], &compat["name"]), (&true.into(), &"gcu".into()));
    assert!(
        compat["why"].as_str().is_some_and(|why| why.starts_with("built-in gcu-t20.yaml:")),
        "{compat}"
    );
    assert_eq!(compat["way"], "sitecustomize");
    assert_eq!(compat["way_reason"], "PyTorch 1.10.0 looks for no entry points");
    assert_eq!(compat["backend"], "eccl");
    let changes = compat["changes"].as_array().expect("a list");
    let pieces: Vec<_> = changes.iter().map(|change| change["piece"].as_str()).collect();
    assert_eq!(pieces, ["set_device", "process_group", "ddp"].map(Some));
    let variables = plan["variables"].as_array().expect("a list");
    let path = variables.iter().find(|variable| variable["name"] == "PYTHONPATH").expect("is set");
    assert_eq!(path["at_start"], "a folder of the run, then /opt/mine");
    assert!(path["reason"].as_str().is_some_and(|why| why.contains("yours is kept")), "{path}");
    assert!(
        path["origin"].as_str().is_some_and(|from| from.starts_with("built-in gcu-t20.yaml:")),
        "{path}"
    );

    let offered = json(&[]);
    assert_eq!(offered["compat"]["on"], false, "{offered}");
    assert_eq!(offered["compat"]["name"], "gcu");
    assert_eq!(offered["compat"]["changes"], serde_json::json!([]));
    assert_eq!(json(&["--compat", "off"]).get("compat"), None);
    // CPU tensors are not for eccl.
    let cpu = json(&["--compat", "cpu"]);
    assert_eq!(
        (&cpu["backend"]["name"], &cpu["compat"]["backend"]),
        (&"gloo".into(), &"gloo".into())
    );

    // Where lines are broken is not what this is about.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = words(&planned(&["--compat", "gcu"]).stdout);
    for part in [
        "compat gcu (--compat), by a module sitecustomize: PyTorch 1.10.0 looks for no entry points",
        "what is changed in the ranks for scripts that insist on CUDA torch.cuda.set_device calls",
        "calls of .cuda() and .to(\"cuda\") are not changed",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = words(&planned(&[]).stdout);
    assert!(text.contains("compat off; --compat gcu would help: MMEngine 0.10.5 "), "{text}");
}

#[test]
fn a_script_that_sets_its_device_by_hand() {
    let job = Job::new().args(["--compat", "cpu", "--nproc", "2", "--log-dir", "/dev/null"]);
    let lib = job.dir.path().join("lib");
    std::fs::create_dir(&lib).expect("a folder");
    let job = job.file("lib/mine.py", "VALUE = 7\n").env("PYTHONPATH", &lib);
    let end = job.env("WITH_WORKERS", "1").script(BY_HAND).run_within(LONG).expect_code(0);
    for line in [
        "[rank 0] backends gloo gloo\n",
        "[rank 1] backends gloo gloo\n",
        "[rank 0] gradient [[1.5, 1.5]]\n",
        "[rank 1] gradient [[1.5, 1.5]]\n",
        "[rank 0] worker set its device\n",
        "[rank 0] program set its device\n",
        &format!("[rank 0] mine 7 {}\n", lib.display()),
    ] {
        assert_eq!(end.stdout.matches(line).count(), 1, "{line}{}", end.stdout);
    }
    let said = said(&end);
    // The second is another one's, of a group that was asked for otherwise.
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said[0].starts_with("compat cpu: "), "{said:?}");
    assert_eq!(left(&end), [""; 0].map(PathBuf::from));
    assert!(!end.left_in_tmp().iter().any(|name| name.to_string_lossy().contains("nvlaunch")));
}

#[test]
fn without_the_layer_a_hint_names_it() {
    let end = Job::new().args(["--nproc", "1"]).script(SMALL).run_within(LONG).expect_code(1);
    assert!(end.stderr.contains("Found no NVIDIA driver"), "{}", end.stderr);
    let hint = "--compat cpu starts it as it is";
    assert!(end.stderr.contains(hint), "{}", end.stderr);
    let end = Job::new().args(["--compat", "off"]).script(SMALL).run_within(LONG).expect_code(1);
    assert!(!end.stderr.contains(hint), "{}", end.stderr);
}

#[test]
fn the_devices_of_a_plugin_take_the_place_of_cudas() {
    let job = Job::new().args(["--compat", "gcu", "--nproc", "2"]);
    let job = job.arg("--sysroot").arg(host("gcu-t20-mmengine-torch-gcu"));
    let end = job.file("torch_gcu.py", TORCH_GCU).script(BY_HAND).run_within(LONG).expect_code(0);
    for rank in 0..2 {
        let set = format!("[rank {rank}] torch.gcu.set_device {rank}\n");
        // By number, and as a device.
        assert_eq!(end.stdout.matches(&set).count(), 2, "{}", end.stdout);
        let backends = format!("[rank {rank}] backends eccl ");
        assert_eq!(end.stdout.matches(&backends).count(), 1, "{}", end.stdout);
    }
    let said = said(&end);
    assert!(said.contains(&"  torch.cuda.set_device calls torch.gcu.set_device"), "{said:?}");
    assert!(said.contains(&"the backend nccl cannot work here: eccl takes its place"), "{said:?}");
    assert!(!end.stderr.contains("ARE NOT USED"), "{}", end.stderr);
}

/// By either way, what a template has imported is changed in the ranks that are forked from it.
#[test]
fn warm_ranks() {
    for autoload in ["1", "0"] {
        let job = Job::new().args(["--compat", "cpu", "--warm", "--nproc", "2"]);
        let job = job.env("TORCH_DEVICE_BACKEND_AUTOLOAD", autoload).script(BY_HAND);
        let end = job.run_within(LONG).expect_code(0);
        assert!(!end.stderr.contains("cold"), "{}", end.stderr);
        assert_eq!(end.stdout.matches("] backends gloo gloo\n").count(), 2, "{}", end.stdout);
        assert_eq!(said(&end).len(), 5, "{}", end.stderr);
    }
}

#[test]
fn an_old_pytorch_is_reached_by_sitecustomize_which_gives_way_to_the_users_own() {
    let own = "import sys; print('own', __file__.split('/')[-2], sys.modules[__name__].__file__ == __file__)\n";
    for (site, stdout, stderr) in [
        (own, "own lib True\nset\n", ""),
        ("raise ValueError('of mine')\n", "set\n", "ValueError: of mine"),
        ("import no_such_module\n", "set\n", "No module named 'no_such_module'"),
    ] {
        let job = Job::new().args(["--compat", "cpu"]);
        let job = with_torch(job, "1.10.0", SMALL_TORCH).file("lib/sitecustomize.py", site);
        let end = job.script(SMALL).run().expect_code(0);
        assert_eq!(end.stdout, stdout);
        assert!(end.stderr.contains(stderr), "{}", end.stderr);
        assert_eq!(said(&end).len(), 4, "{}", end.stderr);
    }
}

/// What `PyTorch` does not take for a CUDA device is refused with its own words.
#[test]
fn what_is_no_cuda_device_is_refused() {
    let torch = SMALL_TORCH.to_owned()
        + "
class device:
    def __init__(self, name):
        if not isinstance(name, str):
            raise TypeError(name)
        self.type, _, index = name.partition(':')
        self.index = int(index) if index else None
";
    let script = "
import torch
for device in 'cpu', 'xpu:1', 'cuda', 'gcu:1', 'cuda:1', 1, -1, None:
    try:
        torch.cuda.set_device(device)
        print('set', device)
    except RuntimeError:
        print('refused', device)
";
    let refused = "refused cpu\nrefused xpu:1\nrefused cuda\n";
    for (name, set) in [
        ("cpu", "refused gcu:1\nset cuda:1\nset 1\nset -1\nrefused None\n"),
        ("gcu", "gcu 1\nset gcu:1\ngcu 1\nset cuda:1\ngcu 1\nset 1\nset -1\nrefused None\n"),
    ] {
        let job = Job::new().args(["--compat", name, "--preflight", "off"]);
        let plugin = "def set_device(device):\n    print('gcu', device)\n";
        let job = with_torch(job, "2.4.1", &torch).file("lib/torch_gcu.py", plugin);
        let end = job.script(script).run().expect_code(0);
        assert_eq!(end.stdout, refused.to_owned() + set, "{}", end.stderr);
    }
}

/// Many packages ask whether torch is there before anybody imports it, and some try again.
#[test]
fn an_old_pytorch_is_reached_by_the_import_that_succeeds() {
    let asks = format!(
        "import importlib.util\nassert importlib.util.find_spec('torch')\n\
         assert importlib.util.find_spec('torch').loader\n{SMALL}"
    );
    let retries = format!("try:\n    import torch\nexcept ImportError:\n    pass\n{SMALL}");
    // A finder that asks the others for the same module.
    let nested = format!(
        "import importlib.util, sys\n\
         class Finder:\n    is_asking = False\n    \
             def find_spec(self, name, path=None, target=None):\n        \
                 if self.is_asking:\n            return None\n        \
                 self.is_asking = True\n        \
                 spec = importlib.util.find_spec(name)\n        \
                 self.is_asking = False\n        \
                 return spec\n\
         sys.meta_path.insert(0, Finder())\n{SMALL}"
    );
    for script in [asks, retries, nested] {
        let fails = "import os\nif os.environ.pop('FAILS', None): raise ImportError('once')\n";
        let job = with_torch(Job::new(), "1.10.0", &(fails.to_owned() + SMALL_TORCH));
        let fails = if script.contains("except") { "1" } else { "" };
        let end = job.args(["--compat", "cpu"]).env("FAILS", fails).script(&script).run();
        let end = end.expect_code(0);
        assert_eq!(end.stdout, "set\n", "{script}");
        assert_eq!(said(&end).len(), 4, "{}", end.stderr);
    }
}

/// `PyTorch` 2.0 and later moves the inputs of a module on any device to where `device_ids` says.
#[test]
fn device_ids_are_dropped_only_where_they_are_refused() {
    let script = "
import types
from torch.nn.parallel import DistributedDataParallel
def module(*names):
    parameters = [types.SimpleNamespace(device=types.SimpleNamespace(type=name)) for name in names]
    return types.SimpleNamespace(parameters=lambda: parameters)
for names in ('cpu', 'cpu'), ('gcu',), ('cuda',):
    DistributedDataParallel(module(*names), device_ids=[0], output_device=0)
";
    let torch = SMALL_TORCH.replace("        pass\n", "        print(device_ids, output_device)\n");
    assert_ne!(torch, SMALL_TORCH);
    for (version, of_vendor) in [("1.13.1", "None None"), ("2.0.0", "[0] 0"), ("2.15.0", "[0] 0")] {
        let init = format!("__version__ = '{version}'\n{torch}");
        let job = with_torch(Job::new(), version, &init).args(["--compat", "cpu"]);
        let job = job.env("TORCH_DEVICE_BACKEND_AUTOLOAD", "0");
        let end = job.script(script).run().expect_code(0);
        assert_eq!(end.stdout, format!("None None\n{of_vendor}\n[0] 0\n"), "{version}");
    }
}

/// It must never break `import torch`.
#[test]
fn an_error_in_the_layer_is_one_line() {
    // The second has no `nn`, which one piece of the layer looks for.
    let no_ddp = SMALL_TORCH.replace("nn = ", "other = ");
    let no_cuda = SMALL_TORCH.replace("cuda = module", "other = module");
    for (torch, script, piece, name) in [
        (&*no_ddp, SMALL, "ddp", "nn"),
        (&no_cuda, "import torch; print('set')", "set_device", "cuda"),
    ] {
        let job = with_torch(Job::new(), "2.4.1", torch).args(["--compat", "cpu", "--nproc", "2"]);
        let end = job.script(script).run().expect_code(0);
        assert_eq!(end.stdout.matches("set\n").count(), 2, "{}", end.stdout);
        let said = said(&end);
        let aside: Vec<_> = said.iter().filter(|line| line.contains("aside")).collect();
        assert_eq!(aside.len(), 1, "{said:?}");
        assert!(
            aside[0].starts_with(&format!("{piece} steps aside: AttributeError: ")),
            "{said:?}"
        );
        assert!(aside[0].contains(&format!("has no attribute '{name}'")), "{said:?}");
        // What does not work is not said to be changed.
        assert!(!said.iter().any(|line| line.contains("DistributedDataParallel")), "{said:?}");
    }
}

#[test]
fn an_error_of_the_script_is_its_own() {
    let job = with_torch(Job::new(), "1.10.0", "raise OSError('libfoo.so: not found')");
    let end = job.args(["--compat", "cpu"]).script(SMALL).run().expect_code(1);
    assert!(end.stderr.contains("OSError: libfoo.so: not found"), "{}", end.stderr);
    assert_eq!(said(&end), [""; 0]);
}

#[test]
fn isolated_interpreters_are_not_reached_and_that_is_said() {
    let python = venv("python");
    let run = |option: &str| {
        let job = Job::new().args(["--compat", "cpu", "--no-python"]).arg(&python).arg(option);
        job.script("import sys; print('sitecustomize' in sys.modules, sys.path[1][-4:])").run()
    };
    for option in ["-I", "-E", "-uE"] {
        let end = run(option).expect_code(0);
        let note = "compat cpu does not reach the ranks: Python's option -";
        assert!(end.stderr.contains(note), "{option}: {}", end.stderr);
        assert_eq!(said(&end), [""; 0]);
    }
    let end = run("-u").expect_code(0);
    assert!(!end.stderr.contains("does not reach"), "{}", end.stderr);
}

/// Up to 0.7.2 `MMEngine` divides by the number of GPUs; 0.10.3 to 0.10.7 take the rank for a device.
#[test]
fn the_mistakes_of_mmengines_launcher() {
    let old = "
import os, torch
def _init_dist_pytorch(backend, **kwargs):
    rank = int(os.environ['RANK'])
    torch.cuda.set_device(rank % torch.cuda.device_count())
    print('init', backend, kwargs)
";
    let new = "
import os, torch
def _init_dist_pytorch(backend, init_backend='torch', **kwargs):
    torch.musa.set_device(int(os.environ['RANK']))
    print('init', backend, kwargs)
";
    // On a second node ranks count on; there is none yet, so that a script moves its rank.
    let script = "
import os, torch
os.environ['RANK'] = str(8 + int(os.environ['RANK']))
from mmengine.dist.utils import _init_dist_pytorch
_init_dist_pytorch('gloo', timeout=3)
print(torch.cuda.device_count())
";
    let torch = SMALL_TORCH.to_owned()
        + "cuda.device_count = lambda: 0\n\
           musa = module('torch.musa', set_device=lambda device: print('musa', device))\n\
           musa.device_count = lambda: 8\n";
    for (version, launcher, expected) in [
        ("0.7.0", old, "init gloo {'timeout': 3}\n0\n"),
        ("0.10.7", new, "musa 0\ninit gloo {'timeout': 3}\n0\n"),
        ("0.10.8", new, "musa 8\ninit gloo {'timeout': 3}\n0\n"),
    ] {
        let job =
            with_torch(Job::new().args(["--compat", "cpu", "--preflight", "off"]), "2.4.1", &torch);
        std::fs::create_dir_all(job.dir.path().join("lib/mmengine/dist")).expect("a folder");
        let job = job
            .file("lib/mmengine/__init__.py", "from .dist import utils\n")
            .file("lib/mmengine/version.py", &format!("__version__ = '{version}'\n"))
            .file("lib/mmengine/dist/__init__.py", "")
            .file("lib/mmengine/dist/utils.py", launcher);
        let end = job.script(script).run().expect_code(0);
        assert_eq!(end.stdout, expected, "{version}: {}", end.stderr);
    }
}

/// What the layer is made of runs on the oldest interpreter that it is for.
#[test]
fn its_python_is_that_of_3_8() {
    let check = "
import ast, sys
for name in sys.argv[1:]:
    ast.parse(open(name, encoding='utf-8').read(), name, feature_version=(3, 8))
print('parsed', len(sys.argv) - 1)
";
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/compat");
    let files = ["nvlaunch_compat.py", "sitecustomize.py"].map(|name| src.join(name));
    let end = Job::python().script(check).args(files).run().expect_code(0);
    assert_eq!(end.stdout, "parsed 2\n");
}

#[test]
fn transfer_to_gcu_is_imported_only_where_it_is_asked_for() {
    let transfer = "
import torch
torch.cuda.set_device = lambda device: print('transferred', device)
torch.cuda.is_available = lambda: True
";
    for (asked, transfer, expected, aside) in [
        ("", transfer, "gcu 0\nset\n", 0),
        ("1", transfer, "transferred 0\nset\n", 0),
        ("1", "raise RuntimeError('needs CUDA')", "gcu 0\nset\n", 1),
    ] {
        let job = Job::new().args(["--compat", "gcu", "--preflight", "off"]);
        let job = with_torch(job, "1.10.0", SMALL_TORCH).env("NVLAUNCH_COMPAT_TRANSFER", asked);
        std::fs::create_dir_all(job.dir.path().join("lib/torch_gcu")).expect("a folder");
        let plugin = "def set_device(device):\n    print('gcu', device)\n";
        let job = job
            .file("lib/torch_gcu/__init__.py", plugin)
            .file("lib/torch_gcu/transfer_to_gcu.py", transfer);
        let end = job.script(SMALL).run().expect_code(0);
        assert_eq!(end.stdout, expected, "{}", end.stderr);
        assert_eq!(end.stderr.matches("steps aside: RuntimeError: needs CUDA").count(), aside);
    }
}
