//! The launches that are compared.

use std::path::Path;

/// One launch. In every text `{dir}` is its folder and `{port}` a free port.
pub struct Row {
    pub name: &'static str,
    pub args: &'static [&'static str],
    pub env: &'static [(&'static str, &'static str)],
    pub files: &'static [(&'static str, &'static str)],
    pub stdin: &'static str,
    pub port: u16,
}

impl Row {
    pub fn fill(&self, text: &str, dir: &Path) -> String {
        text.replace("{dir}", &dir.display().to_string()).replace("{port}", &self.port.to_string())
    }

    fn env(mut self, env: &'static [(&'static str, &'static str)]) -> Self {
        self.env = env;
        self
    }

    fn files(mut self, files: &'static [(&'static str, &'static str)]) -> Self {
        self.files = files;
        self
    }

    fn stdin(mut self, stdin: &'static str) -> Self {
        self.stdin = stdin;
        self
    }
}

fn row(name: &'static str, args: &'static [&'static str]) -> Row {
    Row { name, args, env: &[], files: &[], stdin: "", port: super::free_port() }
}

/// Both streams, more than one line each. As in the other scripts of several ranks, each line is one
/// write: `print` makes two, and torchrun lets the ranks' writes mix.
const TALK: &str = "\
import os, sys, seen
rank = os.environ['RANK']
sys.stdout.write(f'O:{rank} first\\nO:{rank} keep, this\\n')
sys.stderr.write(f'E:{rank} first\\nE:{rank} drop\\n')
sys.stdout.write(f'O:{rank} end\\n')
";

/// Rank 1 fails in the first attempt, with the others still there.
const FAIL_ONCE: &str = "\
import os, sys, time
attempt, rank = os.environ['TORCHELASTIC_RESTART_COUNT'], os.environ['RANK']
sys.stdout.write(f'O:{attempt}.{rank}\\n')
import seen
if attempt == '0':
    os._exit(3) if rank == '1' else time.sleep(30)
";

const FAIL_ALWAYS: &str = "\
import os, time, seen
os._exit(9) if os.environ['RANK'] == '0' else time.sleep(30)
";

const ONE_FAILS: &str = "\
import os, time, seen
os._exit(3) if os.environ['RANK'] == '1' else time.sleep(30)
";

const KILLED: &str = "\
import os, time, seen
os.kill(os.getpid(), 9) if os.environ['RANK'] == '0' else time.sleep(30)
";

const RECORDED: &str = "\
import seen
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    raise ValueError('boom')

main()
";

const PLAIN_ERROR_FILE: &str = "\
import json, os, seen
with open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w') as file:
    json.dump({'message': 'plain words', 'timestamp': '1700000000'}, file)
os._exit(7)
";

const PACKAGE: &[(&str, &str)] = &[
    ("pkg/__init__.py", ""),
    ("pkg/mod.py", "import seen\nif __name__ == '__main__':\n    print('O:module')\n"),
];

const SHELL: &[(&str, &str)] =
    &[("start.sh", "#!/bin/sh\necho O:shell\nexec python seen.py \"$0\" \"$@\"\n")];

const LOGS: &str = "{dir}/logs";

/// All of them.
pub fn rows() -> Vec<Row> {
    let mut rows = of_shape();
    rows.extend(of_environment());
    rows.extend(of_programs());
    rows.extend(of_ends());
    rows.extend(of_output());
    rows.extend(of_mistakes());
    rows
}

/// How many ranks, and where they meet.
fn of_shape() -> Vec<Row> {
    vec![
        row("one rank", &["seen.py"]),
        row("two ranks", &["--nproc-per-node", "2", "seen.py", "--x", "1", "-r", "--role", "7"]),
        row("an argument like half an option", &["seen.py", "--nproc", "7"]),
        row("underscores", &["--nproc_per_node=3", "--max_restarts=0", "seen.py", "--a_b"]),
        row("cpu", &["--nproc-per-node", "cpu", "seen.py"]),
        row("auto", &["--nproc-per-node", "auto", "seen.py"]),
        row("standalone", &["--standalone", "--nproc-per-node", "2", "seen.py"]),
        row(
            "standalone with an id",
            &["--standalone", "--rdzv-id", "job7", "--rdzv-endpoint", "far.example:1", "seen.py"],
        ),
        row("an id alone", &["--rdzv-id", "job7", "seen.py"]),
        row(
            "static with a port",
            &["--master-addr", "127.0.0.1", "--master-port", "{port}", "seen.py"],
        ),
        row("static with an id", &["--master-port", "{port}", "--rdzv-id", "job7", "seen.py"]),
        row(
            "static with an endpoint",
            &["--rdzv-endpoint", "127.0.0.1:{port}", "--rdzv-id", "job7", "seen.py"],
        ),
        row(
            "c10d",
            &[
                "--rdzv-backend",
                "c10d",
                "--rdzv-endpoint",
                "localhost:0",
                "--rdzv-id=job7",
                "seen.py",
            ],
        ),
        row(
            "options without effect",
            &[
                "--nnodes=1:1",
                "--node-rank=0",
                "--monitor-interval=0.1",
                "--start-method=fork",
                "--rdzv-conf=timeout=5,join_timeout=60",
                "--event-log-handler=null",
                "--local-addr=localhost",
                "seen.py",
            ],
        ),
    ]
}

/// What the caller's environment does.
fn of_environment() -> Vec<Row> {
    vec![
        row("variables as options", &["seen.py"]).env(&[
            ("PET_NPROC_PER_NODE", "2"),
            ("PET_MAX_RESTARTS", "4"),
            ("PET_ROLE", "trainer"),
        ]),
        row("options before variables", &["--nproc-per-node", "1", "--role=b", "seen.py"])
            .env(&[("PET_NPROC_PER_NODE", "2"), ("PET_ROLE", "a")]),
        row("stale names", &["--nproc-per-node", "2", "seen.py"]).env(&[
            ("RANK", "9"),
            ("WORLD_SIZE", "99"),
            ("LOCAL_RANK", "9"),
            ("LOCAL_WORLD_SIZE", "99"),
            ("GROUP_RANK", "9"),
            ("GROUP_WORLD_SIZE", "9"),
            ("ROLE_RANK", "9"),
            ("ROLE_WORLD_SIZE", "9"),
            ("ROLE_NAME", "stale"),
            ("MASTER_ADDR", "far.example"),
            ("MASTER_PORT", "1"),
            ("TORCHELASTIC_RESTART_COUNT", "7"),
            ("TORCHELASTIC_MAX_RESTARTS", "7"),
            ("TORCHELASTIC_RUN_ID", "stale"),
            ("TORCHELASTIC_USE_AGENT_STORE", "stale"),
        ]),
        row("threads given", &["--nproc-per-node", "2", "seen.py"])
            .env(&[("OMP_NUM_THREADS", "4")]),
        row("threads empty", &["--nproc-per-node", "2", "seen.py"]).env(&[("OMP_NUM_THREADS", "")]),
        row("error handling off", &["seen.py"]).env(&[("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")]),
        row("error handling empty", &["seen.py"]).env(&[("TORCH_NCCL_ASYNC_ERROR_HANDLING", "")]),
        row("role", &["--role", "worker", "--nproc-per-node", "2", "seen.py"]),
        row("devices", &["--nproc-per-node", "2", "seen.py"]).env(&[
            ("CUDA_VISIBLE_DEVICES", "3,5"),
            ("NCCL_DEBUG", "WARN"),
            ("EMPTY", ""),
        ]),
        row("virtual local rank", &["--virtual-local-rank", "--nproc-per-node", "2", "seen.py"])
            .env(&[("CUDA_VISIBLE_DEVICES", "3,5")]),
        row(
            "virtual local rank without devices",
            &["--virtual-local-rank", "--nproc-per-node", "2", "seen.py"],
        ),
        row("signals", &["--signals-to-handle", "SIGTERM,SIGUSR1", "seen.py"]),
    ]
}

/// What is run, and with what arguments.
fn of_programs() -> Vec<Row> {
    vec![
        row("module", &["-m", "pkg.mod", "--x", "1"]).files(PACKAGE),
        row("module by variable", &["pkg.mod"]).files(PACKAGE).env(&[("PET_MODULE", "1")]),
        row("no python", &["--no-python", "python", "seen.py", "a b"]),
        row("no python, by path", &["--no-python", "--nproc-per-node=2", "./start.sh", "-u"])
            .files(SHELL),
        row("interpreter", &["seen.py", "x"])
            .env(&[("PYTHON_EXEC", "{dir}/py.sh")])
            .files(&[("py.sh", "#!/bin/sh\nexport WRAPPED=\"$1\"\nexec python \"$@\"\n")]),
        row(
            "local rank in arguments",
            &[
                "--nproc-per-node=2",
                "seen.py",
                "a-${local_rank}.txt",
                "$local_rank",
                "$$",
                "${other}",
                "$",
                "$local_rankx",
                "--${local_rank",
            ],
        ),
        row("arguments as they are", &["seen.py", "", "a b", "é\n", "--", "-", "*", "{\"a\": 1}"]),
        row("two hyphens first", &["--", "seen.py", "--x"]),
        row("script in a folder", &["sub/train.py"])
            .env(&[("PYTHONPATH", "{dir}")])
            .files(&[("sub/train.py", "import sys, seen\nprint('O:' + sys.path[0])\n")]),
        row("run path", &["--run-path", "run.py", "x"])
            .files(&[("run.py", "import seen\nif __name__ == '__main__':\n    print('O:main')\n")]),
        row("standard input of one", &["read.py"])
            .stdin("one\ntwo\n")
            .files(&[("read.py", "import sys, seen\nseen.note(text=sys.stdin.read())\n")]),
        row("standard input of two", &["--nproc-per-node=2", "seen.py"]).stdin("one\n"),
    ]
}

/// How ranks end, and what follows.
fn of_ends() -> Vec<Row> {
    const NAME: &str = "end.py";
    vec![
        row("one fails", &["--nproc-per-node=2", NAME]).files(&[(NAME, ONE_FAILS)]),
        row("one is killed", &["--nproc-per-node=2", NAME]).files(&[(NAME, KILLED)]),
        row("one ends early", &["--nproc-per-node=2", NAME]).files(&[(
            NAME,
            "import os, time, seen\ntime.sleep(0.3 * int(os.environ['RANK']))\nprint('O:end')\n",
        )]),
        row("exit code 2", &[NAME]).files(&[(NAME, "import seen\nraise SystemExit(2)\n")]),
        row("restarts", &["--nproc-per-node=2", "--max-restarts=2", NAME])
            .files(&[(NAME, FAIL_ONCE)]),
        row("restarts used up", &["--nproc-per-node=2", "--max-restarts=1", NAME])
            .files(&[(NAME, FAIL_ALWAYS)]),
        row(
            "restarts with logs",
            &["--nproc-per-node=2", "--max-restarts=1", "-r", "3", "--log-dir", LOGS, NAME],
        )
        .files(&[(NAME, FAIL_ONCE)]),
        row("recorded error", &["--log-dir", LOGS, NAME])
            .env(&[("TORCHELASTIC_ERROR_FILE", "{dir}/caller-error.json")])
            .files(&[(NAME, RECORDED)]),
        row("plain error file", &["--log-dir", LOGS, NAME])
            .env(&[("TORCHELASTIC_ERROR_FILE", "{dir}/caller-error.json")])
            .files(&[(NAME, PLAIN_ERROR_FILE)]),
        row("asked to end by a rank", &["--nproc-per-node=2", "--log-dir", LOGS, NAME])
            .files(&[(NAME, SLEEP_AND_SIGNAL)]),
    ]
}

/// Rank 1 asks the launcher to end; rank 0 says which signal came.
const SLEEP_AND_SIGNAL: &str = "\
import os, signal, sys, time

def end(number, frame):
    sys.stdout.write(f'O:signal {number}\\n')
    sys.exit(0)

signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
import seen
if os.environ['RANK'] == '1':
    os.kill(os.getppid(), signal.SIGINT)
time.sleep(30)
";

/// Files and console.
fn of_output() -> Vec<Row> {
    const TWO: &str = "--nproc-per-node=2";
    const NAME: &str = "talk.py";
    let talk = |row: Row| row.files(&[(NAME, TALK)]);
    vec![
        talk(row("console", &[TWO, NAME])),
        talk(row("console of one", &[NAME])),
        talk(row("log folder alone", &[TWO, "--log-dir", LOGS, NAME])),
        talk(row("redirect", &[TWO, "-r", "3", "--log-dir", LOGS, "--rdzv-id=none", NAME])),
        talk(row("tee", &[TWO, "-t", "3", "--log-dir", LOGS, NAME])),
        talk(row(
            "tee and redirect by rank",
            &[TWO, "-r", "0:1,1:2", "-t", "0:2", "--log-dir", LOGS, NAME],
        )),
        talk(row("filter by rank", &[TWO, "--local-ranks-filter=1", "--log-dir", LOGS, NAME])),
        talk(row(
            "filters",
            &[
                TWO,
                "--tee=3",
                "--local-ranks-filter=0",
                "--duplicate-stdout-filters=keep,,,end",
                "--duplicate-stderr-filters=drop",
                "--log-dir",
                LOGS,
                NAME,
            ],
        )),
        talk(row(
            "filters without tee",
            &[TWO, "--duplicate-stdout-filters=keep", "--log-dir", LOGS, NAME],
        )),
        talk(row(
            "template",
            &[TWO, "-t3", "--log-line-prefix-template=<${role_name}/${rank}/${local_rank}> ", NAME],
        )),
        talk(row("template by variable", &[TWO, "-t3", NAME]))
            .env(&[("TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE", "<${rank}> ")]),
        talk(row("redirect without a folder", &[TWO, "-r", "1", NAME])),
        row("last line without an end", &["-t", "3", "--log-dir", LOGS, NAME])
            .files(&[(NAME, "import seen\nprint('O:one\\nO:two', end='')\n")]),
        row("bytes that are no text", &[TWO, "-r", "1", "--log-dir", LOGS, NAME]).files(&[(
            NAME,
            "import os, seen\nos.write(1, b'O:\\xff\\0\\r\\x1b[0m\\n\\nO:' + b'x' * 100000)\n",
        )]),
        row("no files", &[TWO, "--log-dir", "/dev/null", "seen.py"]),
    ]
}

/// What cannot be.
fn of_mistakes() -> Vec<Row> {
    vec![
        row("unknown option", &["--no-such-option", "seen.py"]),
        row("no script", &[]),
        row("no value", &["--nproc-per-node"]),
        row("missing script", &["no-such-script.py"]),
        row("missing program", &["--no-python", "no-such-program"]),
        row("module without python", &["-m", "--no-python", "pkg"]),
        row("no such number", &["--nproc-per-node", "many", "seen.py"]),
        row("no rank", &["--nproc-per-node", "0", "seen.py"]),
        row("no GPU", &["--nproc-per-node", "gpu", "seen.py"]).env(&[("CUDA_VISIBLE_DEVICES", "")]),
        row("less than no restart", &["--max-restarts", "-1", "seen.py"]),
        row("no node", &["--nnodes", "0", "seen.py"]),
        row("streams that are none", &["-r", "7", "seen.py"]),
        row("flag that is no number", &["seen.py"]).env(&[("PET_STANDALONE", "yes")]),
    ]
}
