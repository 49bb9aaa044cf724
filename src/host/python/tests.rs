use super::*;
use crate::host::elf::tests::elf_file;
use crate::host::tests::Root;

const VERSION: &str = "__version__ = '2.8.0+cu128'\ncuda: Optional[str] = '12.8'\n";

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn env(pairs: Pairs<'_>) -> Env {
    pairs.iter().copied().collect()
}

/// A root with a file that says nothing at every path.
fn root(paths: &[&str]) -> Root {
    let root = Root::new(&[]);
    for path in paths {
        root.file(path, "");
    }
    root
}

fn look(root: &Root, env: &Env, interpreter: &str) -> Python {
    let interpreter = Some(Path::new(interpreter)).filter(|path| !path.as_os_str().is_empty());
    let mut notes = Vec::new();
    let python = read(root.path(), env, interpreter, true, &mut notes);
    assert_eq!(notes, [], "{interpreter:?}");
    python
}

#[test]
fn where_packages_are_looked_for() {
    let root = root(&[
        // Debian's own interpreter.
        "usr/bin/python3.11",
        "usr/lib/python3/dist-packages/x",
        "usr/local/lib/python3.11/dist-packages/x",
        "home/me/.local/lib/python3.11/site-packages/x",
        // conda's.
        "opt/conda/bin/python3.12",
        "opt/conda/lib/python3.12/site-packages/x",
        "home/me/.local/lib/python3.12/site-packages/x",
        // one that was built into a folder of its own, and tells no version
        "opt/py/bin/python",
        "opt/py/lib/python3.9/site-packages/x",
        "opt/py/lib/python3.10/site-packages/x",
        "more/x",
    ]);
    root.link("usr/bin/python3", "python3.11");
    root.link("bin", "usr/bin");
    root.link("opt/conda/bin/python", "python3.12");
    // An environment that sees the system's packages, one that does not, and virtualenv's.
    for (name, text) in [
        ("open", "home = /usr/bin\ninclude-system-site-packages = true\nversion = 3.11.2\n"),
        ("shut", "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n"),
        ("bare", "home = /usr/bin\n"),
    ] {
        root.file(&format!("venv/{name}/pyvenv.cfg"), text);
        root.file(&format!("venv/{name}/lib/python3.11/site-packages/x"), "");
        root.link(&format!("venv/{name}/bin/python"), "/usr/bin/python3");
        root.link(&format!("venv/{name}/lib64"), "lib");
    }
    let me = ("HOME", "/home/me");
    let user = "/home/me/.local/lib/python3.11/site-packages";
    let debian = ["/usr/local/lib/python3.11/dist-packages", "/usr/lib/python3/dist-packages"];
    let open = "/venv/open/lib/python3.11/site-packages";
    let shut = "/venv/shut/lib/python3.11/site-packages";
    let bare = "/venv/bare/lib/python3.11/site-packages";
    let conda = "/opt/conda/lib/python3.12/site-packages";
    let rows: &[(&str, Pairs, &str, &[&str])] = &[
        ("/usr/bin/python3", &[], "3.11", &debian),
        ("/bin/python3", &[], "3.11", &debian),
        ("/usr/bin/python3", &[me], "3.11", &[user, debian[0], debian[1]]),
        ("/usr/bin/python3", &[me, ("PYTHONNOUSERSITE", "1")], "3.11", &debian),
        (
            "/usr/bin/python3",
            &[("PYTHONPATH", "/more::/nowhere")],
            "3.11",
            &["/more", debian[0], debian[1]],
        ),
        ("/venv/open/bin/python", &[me], "3.11", &[open, user, debian[0], debian[1]]),
        ("/venv/shut/bin/python", &[me], "3.11", &[shut]),
        ("/venv/bare/bin/python", &[], "3.11", &[bare]),
        ("/opt/conda/bin/python", &[], "3.12", &[conda]),
        ("/opt/py/bin/python", &[], "3.10", &["/opt/py/lib/python3.10/site-packages"]),
        ("", &[("VIRTUAL_ENV", "/venv/shut")], "3.11", &[shut]),
        ("", &[("CONDA_PREFIX", "/opt/conda")], "3.12", &[conda]),
        ("", &[("PATH", "/nowhere:/opt/conda/bin")], "3.12", &[conda]),
        ("", &[], "3.11", &debian),
        ("bin/python3", &[("PWD", "/usr")], "3.11", &debian),
    ];
    for (interpreter, pairs, version, sites) in rows {
        let python = look(&root, &env(pairs), interpreter);
        assert_eq!(python.version.as_deref(), Some(*version), "{interpreter} {pairs:?}");
        assert_eq!(python.site_packages, *sites, "{interpreter} {pairs:?}");
    }
}

#[test]
fn what_a_shim_of_pyenv_starts() {
    let pyenv = "home/me/.pyenv";
    let root = root(&[
        &format!("{pyenv}/shims/python"),
        &format!("{pyenv}/shims/python3"),
        &format!("{pyenv}/versions/3.11.9/bin/python3"),
        &format!("{pyenv}/versions/3.11.10/bin/python3"),
        &format!("{pyenv}/versions/3.8.20/bin/python"),
        "usr/bin/python3",
    ]);
    let shim = format!("/{pyenv}/shims/python3");
    let of = |version: &str, name: &str| format!("/{pyenv}/versions/{version}/bin/{name}");
    let (newest, old) = (of("3.11.10", "python3"), of("3.8.20", "python"));
    let rows: &[(Pairs, Pairs, &str)] = &[
        (&[], &[], "/usr/bin/python3"),
        (&[("PYENV_VERSION", "3.11.9")], &[], &of("3.11.9", "python3")),
        (&[("PYENV_VERSION", "3.11")], &[], &newest),
        (&[("PYENV_VERSION", "3.9.1:3.8.20")], &[], &old),
        (&[], &[("version", "3.8.20\n")], &old),
        (&[("PWD", "/srv/a/b")], &[("../../../srv/a/.python-version", "# mine\n3.11\n")], &newest),
        (
            &[("PYENV_VERSION", "system"), ("PATH", &format!("/{pyenv}/shims:/usr/bin"))],
            &[],
            "/usr/bin/python3",
        ),
    ];
    for (pairs, files, expected) in rows {
        for (path, text) in *files {
            root.file(&format!("{pyenv}/{path}"), text);
        }
        let python = look(&root, &env(pairs), &shim);
        assert_eq!(python.interpreter.as_deref(), Some(*expected), "{pairs:?} {files:?}");
    }
    let mut notes = Vec::new();
    let unknown = env(&[("PYENV_VERSION", "2.7")]);
    let python = read(root.path(), &unknown, Some(Path::new(&shim)), false, &mut notes);
    assert_eq!((python.interpreter, notes.len()), (Some(shim), 1));
}

#[test]
fn packages_and_pytorch() {
    let site = "opt/py/lib/python3.11/site-packages";
    let user = "home/me/.local/lib/python3.11/site-packages";
    let root = root(&[
        "opt/py/bin/python3.11",
        &format!("{site}/mmengine-0.10.7.dist-info/METADATA"),
        &format!("{site}/torch_gcu-2.1.0+3.1.dist-info/METADATA"),
        &format!("{site}/requests-2.0.dist-info/METADATA"),
        &format!("{user}/mmengine-0.7.3.dist-info/METADATA"),
    ]);
    let python = "/opt/py/bin/python3.11";
    let home = env(&[("HOME", "/home/me")]);
    let found = look(&root, &home, python);
    let packages: Vec<_> = found.packages.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(packages, [("mmengine", "0.7.3"), ("torch-gcu", "2.1.0+3.1")]);
    assert_eq!((found.torch, found.nccl), (None, None));
    // A build from source, which an old or new set-up links to.
    root.file("src/pytorch/torch/version.py", "__version__ = '2.9.0a0+git1'\ncuda = None\n");
    root.file(&format!("{site}/easy-install.pth"), "import sys\n# x\n/nowhere\n/src/pytorch\n");
    let torch = look(&root, &home, python).torch.expect("it is linked");
    assert_eq!(torch.version, "2.9.0a0+git1");
    assert_eq!(torch.source, "/src/pytorch/torch/version.py");
    root.file(&format!("{site}/torch/version.py"), VERSION);
    let torch = look(&root, &home, python).torch.expect("it is installed");
    assert_eq!((torch.version.as_str(), torch.cuda.as_deref()), ("2.8.0+cu128", Some("12.8")));
}

/// A library whose dynamic section has that tag.
fn needs_nccl(tag: u64) -> Vec<u8> {
    let entries = [[1, 5], [tag, 9], [0, 0], [15, 0]];
    let section: Vec<u8> = entries.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    elf_file(&[(".dynamic", &section)])
}

#[test]
fn which_nccl_the_ranks_load() {
    const RPATH: u64 = 15;
    const RUNPATH: u64 = 29;
    let site = "opt/py/lib/python3.11/site-packages";
    let nccl = elf_file(&[(".rodata", b"NCCL_DEBUG\0NCCL version 2.21.5+cuda12.4\0")]);
    let root = Root::new(&[
        ("opt/py/bin/python3.11", ""),
        (&format!("{site}/torch/version.py"), VERSION),
        (&format!("{site}/nvidia_nccl_cu12-2.27.3.dist-info/METADATA"), ""),
    ]);
    let put = |path: &str, bytes: &[u8]| {
        let path = root.file(path, "");
        std::fs::write(path, bytes).expect("it is ours");
    };
    let find = |pairs: &[(&str, &str)]| look(&root, &env(pairs), "/opt/py/bin/python3.11").nccl;
    assert_eq!(find(&[]), None);
    // A build from source takes the system's.
    put("usr/lib/x86_64-linux-gnu/libnccl.so.2.21.5", &nccl);
    root.link("usr/lib/x86_64-linux-gnu/libnccl.so.2", "libnccl.so.2.21.5");
    let found = find(&[]).expect("the system has one");
    assert_eq!(found.path, "/usr/lib/x86_64-linux-gnu/libnccl.so.2");
    assert_eq!((found.version.as_deref(), found.is_override), (Some("2.21.5"), false));
    assert_eq!(found.names, ["NCCL_DEBUG"]);
    put("own/libnccl.so.2", &nccl);
    let named = [("LD_LIBRARY_PATH", "/nowhere:/own")];
    let found = find(&named).expect("it is named");
    assert_eq!(
        (found.path.as_str(), found.is_override, found.wheel),
        ("/own/libnccl.so.2", true, None)
    );
    // A wheel of NCCL, in the old and in the new layout.
    for folder in ["nvidia/nccl/lib", "nvidia/cu13/lib", "torch/lib"] {
        let wheel = format!("{site}/{folder}/libnccl.so.2");
        put(&wheel, &nccl);
        put(&format!("{site}/torch/lib/libtorch_cuda.so"), &needs_nccl(RPATH));
        let found = find(&named).expect("the wheel has one");
        assert_eq!((found.path, found.is_override), (format!("/{wheel}"), false), "{folder}");
        assert_eq!(found.version.as_deref(), Some("2.27.3"));
        put(&format!("{site}/torch/lib/libtorch_cuda.so"), &needs_nccl(RUNPATH));
        let found = find(&named).expect("it is named");
        assert_eq!((found.path.as_str(), found.is_override), ("/own/libnccl.so.2", true));
        assert_eq!(found.wheel, Some(format!("/{wheel}")));
        assert_eq!(found.version.as_deref(), Some("2.21.5"), "what it says of itself");
        // What is preloaded comes before everything.
        put(&format!("{site}/torch/lib/libtorch_cuda.so"), &needs_nccl(RPATH));
        let preloaded = find(&[("LD_PRELOAD", "/x.so /own/libnccl.so.2")]).expect("it is named");
        assert_eq!((preloaded.path.as_str(), preloaded.is_override), ("/own/libnccl.so.2", true));
        std::fs::remove_file(root.path().join(&wheel)).expect("it is there");
    }
    // A PyTorch without CUDA has no use for one.
    root.file(&format!("{site}/torch/version.py"), "__version__ = '2.8.0+cpu'\ncuda = None\n");
    assert_eq!(find(&named), None);
}
