//! What takes long or needs more than the project's own Python environment: `make test-all`.
//!
//! Each test runs only with `NVLAUNCH_HEAVY=1` and says so where it does not run. They run one
//! after the other: each has the machine's processors for itself.

#[path = "../it/answers.rs"]
mod answers;
mod compat;
#[expect(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "../it/harness.rs"]
mod harness;
#[path = "../it/kills/mod.rs"]
mod kills;
mod kills_real;
mod slurm;
mod warm;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use harness::Job;

const BOUND: Duration = Duration::from_secs(300);
const RESTART: &str = include_str!("../it/scripts/restart.py");
const REAL: &str = include_str!("../it/scripts/real.py");
const RPC: &str = include_str!("../it/scripts/rpc.py");
const AGAIN: &str = include_str!("../it/scripts/again.py");
const TABLE: &str = include_str!("../it/scripts/store_table.py");

/// The turn of one test, or nothing where it is not to run: then it has said why.
fn turn(test: &str, needs: &[&str]) -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    let missing = needs.iter().find(|name| !environment(name).exists());
    let reason = match missing {
        _ if std::env::var_os("NVLAUNCH_HEAVY").is_none_or(|value| value != "1") => {
            "NVLAUNCH_HEAVY is not 1".to_owned()
        }
        Some(name) => format!("there is no .venvs/{name}, which `make test-all OLDEST=1` makes"),
        None => return Some(TURN.lock().unwrap_or_else(PoisonError::into_inner)),
    };
    say(&format!("{test}: skipped: {reason}"));
    None
}

/// Past the capture of tests that pass: this is what the run was for.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("stderr is there");
}

fn environment(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".venvs").join(name)
}

/// Two ranks of an environment's Python.
fn two_ranks(name: &str) -> Job {
    let python = environment(name).join("bin/python");
    Job::new().env("PYTHON_EXEC", python).args(["--nproc", "2"])
}

/// The ranks' lines, sorted.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with("[rank ")).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_hundred_restarts_come_back() {
    const TIMES: usize = 100;
    let Some(_turn) = turn("a_hundred_restarts_come_back", &[]) else { return };
    let began = Instant::now();
    let mut lost = Vec::new();
    for _ in 0..TIMES {
        let job = Job::new().args(["--nproc", "2", "--max-restarts", "1"]).script(RESTART);
        let end = job.run_within(BOUND);
        let sums = lines(&end.stdout).into_iter().filter(|line| line.ends_with("sum 3 in 1"));
        let is_stale = end.stdout.contains("stale True");
        if end.code != Some(0) || sums.count() != 2 || is_stale {
            lost.push(format!("exit code {:?}\n{}\n{}", end.code, end.stdout, end.stderr));
        }
    }
    let back = TIMES - lost.len();
    say(&format!("{back} of {TIMES} came back, in {:.0} s", began.elapsed().as_secs_f64()));
    assert!(lost.is_empty(), "{back} of {TIMES} came back\n{}", lost.join("\n"));
}

/// What ranks do with the store, by whichever server.
const GROUPS: &str = "
import os, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
names = ['RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'GROUP_RANK', 'GROUP_WORLD_SIZE',
         'ROLE_RANK', 'ROLE_WORLD_SIZE', 'ROLE_NAME', 'MASTER_ADDR', 'TORCHELASTIC_RESTART_COUNT',
         'TORCHELASTIC_MAX_RESTARTS', 'TORCHELASTIC_USE_AGENT_STORE', 'OMP_NUM_THREADS']
print('env', *map(os.environ.get, names))
dist.init_process_group('gloo')
one = torch.ones(1)
dist.all_reduce(one)
torch.manual_seed(dist.get_rank())
model = DistributedDataParallel(torch.nn.Linear(2, 1))
model(torch.full((1, 2), dist.get_rank() + 1.0)).sum().backward()
group = dist.new_group([0, 1])
said = [None, None]
dist.all_gather_object(said, 'rank %d' % dist.get_rank(), group=group)
dist.barrier()
print('sum', int(one), model.module.weight.grad.tolist(), said, dist.is_torchelastic_launched(),
      torch.__version__, flush=True)
dist.destroy_process_group()
os._exit(0)  # PyTorch may abort while the interpreter ends
";

/// What every supported `PyTorch` must find: the names it reads, the store with every operation it
/// has, its own servers where they are asked for, a second attempt.
fn older_pytorch(name: &str, version: &str, cases: usize) {
    let Some(_turn) = turn(name, &[name]) else { return };
    for (store, served) in [("nvlaunch", "True"), ("rank0", "False")] {
        for libuv in ["0", "1"] {
            // The package of 2.1 has a server without libuv only, and says so at the start.
            let job = two_ranks(name)
                .env("USE_LIBUV", libuv)
                .env("OMP_NUM_THREADS", "1")
                .args(["--store", store]);
            let end = job.script(GROUPS).run_within(BOUND).expect_code(0);
            let seen = lines(&end.stdout);
            for rank in [0, 1] {
                let of = |what: &str| {
                    let start = format!("[rank {rank}] {what} ");
                    seen.iter().find_map(|line| line.strip_prefix(&start)).expect("it says so")
                };
                assert_eq!(
                    of("env"),
                    format!("{rank} {rank} 2 2 0 1 {rank} 2 default 127.0.0.1 0 0 {served} 1")
                );
                let sum = of("sum");
                let expected = format!("2 [[1.5, 1.5]] ['rank 0', 'rank 1'] True {version}");
                assert!(sum.starts_with(&expected), "{sum}");
            }
        }
    }
    let python = environment(name).join("bin/python");
    let job = Job::new().env("PYTHON_EXEC", &python).script(TABLE);
    let end = job.run_within(BOUND).expect_code(0);
    let agreed = answers::agreed(&end.stdout);
    assert_eq!(agreed.cases, cases, "{}", end.stdout);
    let end = two_ranks(name).args(["--max-restarts", "1"]).script(RESTART).run_within(BOUND);
    let end = end.expect_code(0);
    for rank in [0, 1] {
        let sum = format!("[rank {rank}] sum 3 in 1");
        assert!(lines(&end.stdout).contains(&&*sum), "{sum}: {}", end.stdout);
    }
    assert!(!end.stdout.contains("stale True"), "{}", end.stdout);
    let end = two_ranks(name).env("TIMES", "20").script(AGAIN).run_within(BOUND).expect_code(0);
    assert_eq!(end.stdout.matches("made 20").count(), 2, "{}", end.stdout);
    say(&format!("{name}: {agreed}"));
}

/// Checkpoints, RPC, and what `torch.distributed.elastic` leaves for the launcher.
fn real_jobs(name: &str) {
    let Some(_turn) = turn(name, &[name]) else { return };
    for (script, sums) in
        [(REAL, &["[rank 0] sum 2", "[rank 1] sum 2"][..]), (RPC, &["[rank 0] sum 2"])]
    {
        let end = two_ranks(name).script(script).run_within(BOUND).expect_code(0);
        // Some versions of gloo print there, too.
        let seen: Vec<&str> =
            lines(&end.stdout).into_iter().filter(|line| line.contains("] sum ")).collect();
        assert_eq!(seen, sums);
    }
    let script = "
import os, torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    dist.init_process_group('gloo')
    if dist.get_rank() == 1:
        raise ValueError('the data is odd')
    dist.barrier()

try:
    main()
except ValueError:
    os._exit(1)  # PyTorch may abort while the interpreter ends
";
    let end = two_ranks(name).script(script).run_within(BOUND).expect_code(1);
    let said = end.stderr.find("its error file says:\n    Traceback");
    assert!(end.stderr.find("rank 1 failed first: ") < said, "{}", end.stderr);
    assert!(end.stderr.find("    ValueError: the data is odd\n") > said, "{}", end.stderr);
}

#[test]
fn real_jobs_with_pytorch_2_4() {
    real_jobs("torch-2.4");
}

#[test]
fn real_jobs_with_pytorch_2_8() {
    real_jobs("torch-2.8");
}

#[test]
fn pytorch_2_0() {
    older_pytorch("torch-2.0", "2.0.", 19);
}

#[test]
fn pytorch_2_1() {
    older_pytorch("torch-2.1", "2.1.", 25);
}

#[test]
fn pytorch_2_4() {
    older_pytorch("torch-2.4", "2.4.", 26);
}

#[test]
fn pytorch_2_8() {
    older_pytorch("torch-2.8", "2.8.", 31);
}

#[test]
fn accelerate_finds_the_ranks() {
    let Some(_turn) = turn("accelerate_finds_the_ranks", &["frameworks"]) else { return };
    accelerate();
}

fn accelerate() {
    let script = "
import os, torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
model = accelerator.prepare(torch.nn.Linear(2, 1))
number = accelerator.gather(torch.tensor([accelerator.process_index + 1]))
print(accelerator.num_processes, accelerator.process_index, accelerator.local_process_index,
      accelerator.distributed_type.value, type(model).__name__, number.tolist(), flush=True)
accelerator.wait_for_everyone()
accelerator.end_training()
os._exit(0)  # PyTorch may abort while the interpreter ends
";
    let end = two_ranks("frameworks").script(script).run_within(BOUND).expect_code(0);
    assert_eq!(
        lines(&end.stdout),
        [
            "[rank 0] 2 0 0 MULTI_CPU DistributedDataParallel [1, 2]",
            "[rank 1] 2 1 1 MULTI_CPU DistributedDataParallel [1, 2]"
        ]
    );
}

#[test]
fn lightning_finds_the_ranks_and_trains() {
    let Some(_turn) = turn("lightning_finds_the_ranks_and_trains", &["frameworks"]) else { return };
    lightning();
}

fn lightning() {
    let script = "
import os, torch, lightning
from lightning.pytorch.plugins.environments import TorchElasticEnvironment

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, index):
        return self.layer(batch[0]).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

lightning.seed_everything(lightning.fabric.utilities.rank_zero.rank_zero_only.rank or 0)
data = torch.utils.data.TensorDataset(torch.randn(32, 2))
trainer = lightning.Trainer(
    accelerator='cpu', devices=2, strategy='ddp', max_steps=4, max_epochs=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
model = Model()
trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=4))
weights = [torch.empty_like(model.layer.weight) for _ in range(2)]
torch.distributed.all_gather(weights, model.layer.weight.detach())
print('done', trainer.world_size, trainer.global_rank, trainer.global_step,
      TorchElasticEnvironment.detect(),
      type(trainer.strategy.cluster_environment).__name__, torch.equal(*weights), flush=True)
torch.distributed.barrier()
os._exit(0)  # PyTorch may abort while the interpreter ends
";
    let end = two_ranks("frameworks").script(script).run_within(BOUND).expect_code(0);
    let done: Vec<&str> =
        lines(&end.stdout).into_iter().filter(|line| line.contains(" done ")).collect();
    assert_eq!(
        done,
        [
            "[rank 0] done 2 0 4 True TorchElasticEnvironment True",
            "[rank 1] done 2 1 4 True TorchElasticEnvironment True"
        ]
    );
}
