//! The scripts of [`super::seen`], in `tests/it/scripts/warm`, and how each is started.

/// One launch.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    /// The script, or `-m` and a module, and what follows it.
    pub args: &'static [&'static str],
    /// Files of its folder. A text that begins with `-> ` is a link to what follows.
    pub files: &'static [(&'static str, &'static [u8])],
    pub env: &'static [(&'static str, &'static str)],
    /// What its template imports.
    pub modules: &'static str,
    /// One rank, not two.
    pub is_alone: bool,
    /// Whether its output goes to files, so that every byte has its rank.
    pub has_logs: bool,
}

/// Modules that a template imports quickly, and that keep something for the process.
const LIGHT: &str = "json,logging,threading,random,multiprocessing";

type Files = &'static [(&'static str, &'static [u8])];

macro_rules! text {
    ($($name:tt)*) => {
        ($($name)*, include_bytes!(concat!("../scripts/warm/", $($name)*)))
    };
}

const SEEN: (&str, &[u8]) = text!("seen.py");

const fn row(name: &'static str, args: &'static [&'static str], files: Files) -> Row {
    Row { name, args, files, env: &[], modules: LIGHT, is_alone: false, has_logs: true }
}

/// The same for one rank: what fails would end another one at some moment.
const fn alone(name: &'static str, args: &'static [&'static str], files: Files) -> Row {
    Row { is_alone: true, ..row(name, args, files) }
}

const fn with_env(row: Row, env: &'static [(&'static str, &'static str)]) -> Row {
    Row { env, ..row }
}

/// A script of its own name.
macro_rules! script {
    ($name:literal) => {
        row($name, &[concat!($name, ".py")], &[text!(concat!($name, ".py")), SEEN])
    };
}

macro_rules! end {
    ($how:literal) => {
        alone(concat!("ends: ", $how), &["exits.py", $how], &[text!("exits.py")])
    };
}

const HELPER: (&str, &[u8]) =
    ("helper.py", b"import sys\nmain_when_imported = sys.modules['__main__'].__file__\n");
const WHERE: (&str, &[u8]) = text!("where.py");
const WHERE_BYTES: &[u8] = WHERE.1;
const FLAGS: Files = &[text!("argv.py"), SEEN];
const SITE: Files = &[
    text!("modules.py"),
    SEEN,
    ("site/sitecustomize.py", b"import os, sys\nsys.from_site = 1\nos.environ['BY_SITE'] = '1'\n"),
    ("site/usercustomize.py", b"import sys\nsys.from_user = 1\n"),
];

/// All of them.
pub const ROWS: &[Row] = &[
    // The environment.
    script!("env_python"),
    script!("env_c"),
    script!("env_child"),
    script!("env_proc"),
    with_env(
        row("a strange environment", &["env_proc.py"], &[text!("env_proc.py"), SEEN]),
        &[
            ("EMPTY", ""),
            ("LINES", "a\nb"),
            ("caf\u{e9}", "\u{20ac}"),
            ("RANK", "stale"),
            ("PYTHONPATH", ""),
        ],
    ),
    // The interpreter and the script.
    script!("argv"),
    row(
        "strange arguments",
        &["argv.py", "", "a b", "caf\u{e9}", "--warm", "-m", "--", "rank=${local_rank}", "$$x"],
        FLAGS,
    ),
    script!("main_module"),
    script!("stack"),
    script!("pickling"),
    row("mp_fork", &["mp_start.py", "fork"], &[text!("mp_start.py"), SEEN]),
    row("mp_spawn", &["mp_start.py", "spawn"], &[text!("mp_start.py"), SEEN]),
    row("mp_forkserver", &["mp_start.py", "forkserver"], &[text!("mp_start.py"), SEEN]),
    script!("runpy_"),
    script!("folder"),
    row("a script in a folder", &["sub/where.py", "x"], &[("sub/where.py", WHERE_BYTES)]),
    row("an absolute path", &["<dir>/where.py"], &[WHERE]),
    row("a path with ..", &["sub/../where.py"], &[WHERE]),
    row("a link", &["link.py"], &[("sub/where.py", WHERE_BYTES), ("link.py", b"-> sub/where.py")]),
    row("a folder as the script", &["app"], &[("app/__main__.py", WHERE_BYTES)]),
    row(
        "a module",
        &["-m", "pkg.where", "-x"],
        &[("pkg/__init__.py", b"print('init:', __file__)"), ("pkg/where.py", WHERE_BYTES)],
    ),
    row("a package", &["-m", "pkg"], &[("pkg/__init__.py", b""), ("pkg/__main__.py", WHERE_BYTES)]),
    row("a module and its stack", &["-m", "stack"], &[text!("stack.py"), SEEN]),
    row("a module and its processes", &["-m", "mp_start", "spawn"], &[text!("mp_start.py"), SEEN]),
    row("a module and its names", &["-m", "main_module"], &[text!("main_module.py"), SEEN]),
    row("a BOM", &["bom.py"], &[text!("bom.py")]),
    row("an encoding cookie", &["cookie.py"], &[text!("cookie.py")]),
    alone("lines that end in CRLF", &["crlf.py"], &[text!("crlf.py")]),
    alone("a syntax error", &["syntax_error.py"], &[text!("syntax_error.py")]),
    alone("a missing module", &["missing_module.py"], &[text!("missing_module.py")]),
    alone("-m and no such module", &["-m", "nobody.has_this"], &[]),
    alone("-m and a module that fails", &["-m", "syntax_error"], &[text!("syntax_error.py")]),
    row("an empty script", &["empty.py"], &[("empty.py", b"")]),
    // The process.
    script!("files"),
    script!("stdio"),
    Row {
        has_logs: false,
        ..alone("files of a rank on the console", &["files.py"], &[text!("files.py"), SEEN])
    },
    Row {
        has_logs: false,
        ..alone("streams of a rank on the console", &["stdio.py"], &[text!("stdio.py"), SEEN])
    },
    Row {
        has_logs: false,
        ..alone(
            "an input",
            &["stdin_given.py"],
            &[text!("stdin_given.py"), SEEN, ("stdin", b"one\n\xff\xfe.\r\nend")],
        )
    },
    script!("signals"),
    script!("process"),
    script!("threads"),
    script!("devices"),
    // The end.
    end!("end"),
    end!("number"),
    end!("zero"),
    end!("none"),
    end!("text"),
    end!("object"),
    end!("negative"),
    end!("large"),
    end!("raised"),
    end!("quit"),
    end!("thread"),
    end!("thread fails"),
    end!("at once"),
    end!("error"),
    end!("interrupt"),
    end!("keyboard"),
    end!("term"),
    end!("kill"),
    end!("abort"),
    end!("handled"),
    end!("daemon thread"),
    end!("thread is waited for"),
    end!("closed"),
    end!("exec"),
    end!("forked"),
    script!("atexit_"),
    alone("hooks", &["hooks.py"], &[text!("hooks.py"), SEEN]),
    alone("a traceback", &["traceback_.py"], &[text!("traceback_.py")]),
    alone("a fault", &["faults.py"], &[text!("faults.py"), SEEN]),
    // The state of Python.
    script!("warnings_"),
    script!("seeds"),
    script!("hashes"),
    script!("collector"),
    script!("modules"),
    row("imports", &["imports.py"], &[text!("imports.py"), SEEN, HELPER]),
    Row {
        modules: "logging,slow",
        files: &[text!("logs.py"), SEEN, ("slow.py", b"import time\ntime.sleep(0.5)\n")],
        ..script!("logs")
    },
    script!("locales"),
    script!("clocks"),
    script!("limits_of_python"),
    script!("loops"),
    with_env(row("the environment's own site", &["modules.py"], SITE), &[("PYTHONPATH", "site")]),
    // Variables of Python.
    with_env(
        row("a hash seed", &["hashes.py"], &[text!("hashes.py"), SEEN]),
        &[("PYTHONHASHSEED", "7")],
    ),
    with_env(row("warnings as errors", &["argv.py"], FLAGS), &[("PYTHONWARNINGS", "error")]),
    with_env(
        row("safe path", &["argv.py"], FLAGS),
        &[("PYTHONSAFEPATH", "1"), ("PYTHONPATH", "<dir>")],
    ),
    with_env(
        row("flags by variables", &["argv.py"], FLAGS),
        &[
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONNOUSERSITE", "1"),
            ("PYTHONUTF8", "1"),
            ("PYTHONFAULTHANDLER", "1"),
            ("PYTHONOPTIMIZE", "2"),
            ("PYTHONPYCACHEPREFIX", "<dir>/cache"),
        ],
    ),
    with_env(row("development mode", &["argv.py"], FLAGS), &[("PYTHONDEVMODE", "1")]),
    with_env(
        row("latin-1", &["stdio.py"], &[text!("stdio.py"), SEEN]),
        &[("PYTHONIOENCODING", "latin-1:replace")],
    ),
    with_env(
        row("the C locale", &["locales.py"], &[text!("locales.py"), SEEN]),
        &[("LANG", "C"), ("LC_ALL", "C")],
    ),
    with_env(
        row("traced memory", &["limits_of_python.py"], &[text!("limits_of_python.py"), SEEN]),
        &[("PYTHONTRACEMALLOC", "3")],
    ),
    // With torch.
    Row { modules: "torch", ..script!("numpy_torch") },
];
