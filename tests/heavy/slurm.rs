//! A real Slurm on this machine: a job that Slurm takes away goes on where it left off.
//!
//! Debian's `slurm-wlm` and `munge`, with a cluster of one node below a temporary folder. Skipped
//! where they are not installed or the tests do not run as root.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, gethostname};

use super::{say, turn};
use crate::harness::{nvlaunch, venv, wait_until};

const TRAINER: &str = include_str!("../it/scripts/trainer.py");
/// From one state of a job to the next; Slurm itself works in steps of several seconds.
const SLURM: Duration = Duration::from_secs(120);

/// The first attempt waits to be taken away and then saves step 40; the next one ends well.
const JOB: &str = "#!/bin/bash
#SBATCH --ntasks=1 --time=5 --requeue --open-mode=append --output=out.txt
if [ -z \"${SLURM_RESTART_COUNT:-}\" ]; then
    export DO=wait ON=1:40:exit
else
    export DO='save=50 exit=0'
fi
exec \"$NVLAUNCH\" --nproc 2 --checkpoint-dir ckpt --checkpoint-layout files \\
    --checkpoint-pattern 'step_{step}.pt' --requeue script.py
";

/// The daemons of a cluster of one node, ended when this is dropped.
struct Cluster {
    dir: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Cluster {
    /// Starts it, or says why it cannot be had here.
    fn start() -> Result<Self, String> {
        if !geteuid().is_root() {
            return Err("only root can run Slurm's daemons".to_owned());
        }
        let missing = ["munged", "slurmctld", "slurmd", "sbatch"].into_iter().find(|program| {
            let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            which::which_in(program, Some(path), "/").is_err()
        });
        if let Some(program) = missing {
            return Err(format!("there is no {program} (apt install slurm-wlm munge)"));
        }
        let mut cluster = Self {
            // A socket's path must be short.
            dir: tempfile::Builder::new().prefix("nvl").tempdir_in("/tmp").expect("a folder"),
            daemons: Vec::new(),
        };
        let dir = cluster.dir.path().to_owned();
        for folder in ["state", "spool", "work", "work/ckpt"] {
            fs::create_dir(dir.join(folder)).expect("a folder of the cluster");
        }
        fs::write(dir.join("slurm.conf"), configuration(&dir)).expect("slurm.conf");
        // Only this cluster's own daemons read it.
        fs::write(dir.join("munge.key"), [7; 1024]).expect("a key");
        let only_mine = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(dir.join("munge.key"), only_mine).expect("its mode");
        let at = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
        let munge = [
            at("key-file", "munge.key"),
            at("socket", "munge.sock"),
            at("pid-file", "munged.pid"),
            at("log-file", "munged.log"),
            at("seed-file", "munged.seed"),
            "--foreground".to_owned(),
            "--force".to_owned(),
        ];
        cluster.daemon("munged", &munge);
        wait_until("munge", SLURM, || dir.join("munge.sock").exists());
        cluster.daemon("slurmctld", &["-D".to_owned(), "-c".to_owned()]);
        cluster.daemon("slurmd", &["-D".to_owned()]);
        wait_until("a node that is idle", SLURM, || {
            cluster.ask("sinfo", &["--noheader", "--format=%t"]).trim() == "idle"
        });
        Ok(cluster)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.dir.path().join("slurm.conf"));
        command.env("NVLAUNCH", nvlaunch());
        let folders =
            [venv(""), "/usr/sbin".into(), "/usr/bin".into(), "/sbin".into(), "/bin".into()];
        command.env("PATH", std::env::join_paths(folders).expect("no colon in a path"));
        command.current_dir(self.dir.path().join("work")).stdin(Stdio::null());
        command
    }

    fn daemon(&mut self, program: &str, args: &[String]) {
        let log = fs::File::create(self.dir.path().join(format!("{program}.out"))).expect("a log");
        let both = log.try_clone().expect("a descriptor");
        let mut command = self.command(program);
        let child = command.args(args).stdout(log).stderr(both).spawn();
        self.daemons.push(child.expect("the daemon starts"));
    }

    fn ask(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().expect("it starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `scontrol show job` says of a job.
    fn is(&self, job: &str, words: &str) -> bool {
        self.ask("scontrol", &["show", "job", job]).contains(words)
    }

    fn output(&self) -> String {
        fs::read_to_string(self.dir.path().join("work/out.txt")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let pid = i32::try_from(daemon.id()).expect("a process id");
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = daemon.wait();
        }
    }
}

fn configuration(dir: &Path) -> String {
    let port = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("its address").port()
    };
    let host = gethostname().expect("a name").into_string().expect("text");
    let host = host.split('.').next().expect("a first part");
    let dir = dir.display();
    format!(
        "ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/munge.sock
CredType=cred/munge
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.pid
SlurmctldPort={}
SlurmdPort={}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP
",
        port(),
        port()
    )
}

#[test]
fn slurm_puts_a_job_back_and_it_resumes() {
    let test = "slurm_puts_a_job_back_and_it_resumes";
    let Some(_turn) = turn(test, &[]) else { return };
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(why) => return say(&format!("{test}: skipped: {why}")),
    };
    let work = cluster.dir.path().join("work");
    fs::write(work.join("script.py"), TRAINER).expect("the script");
    fs::write(work.join("job.sh"), JOB).expect("the job");
    let job = cluster.ask("sbatch", &["--parsable", "job.sh"]).trim().to_owned();
    wait_until("two ranks", SLURM, || cluster.output().matches(" waits").count() == 2);
    cluster.ask("scancel", &["--signal=TERM", "--full", &job]);
    wait_until("it is in the queue again", SLURM, || cluster.is(&job, " Restarts=1 "));
    let output = cluster.output();
    assert!(output.contains("preempted by SIGTERM"), "{output}");
    assert!(output.contains("step_40.pt (step 40) was saved"), "{output}");
    // What nvlaunch says after that may be cut off: Slurm kills a job that is in its queue again.
    // Slurm itself would wait for two minutes.
    wait_until("it may start", SLURM, || {
        cluster.ask("scontrol", &["update", &format!("JobId={job}"), "StartTime=now"]);
        cluster.is(&job, "JobState=COMPLETED")
    });
    let output = cluster.output();
    assert!(output.contains("resuming from ") && output.contains("(step 40)"), "{output}");
    let version = cluster.ask("slurmctld", &["-V"]);
    say(&format!("{}: preempted, put back, resumed from step 40, completed", version.trim()));
}
