//! Cgroups of version 1 or 2 for tests, where they can be made.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{SOON, wait_until};

/// A cgroup that is removed with the value; what is still in it is killed.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A group with this controller; `Err` says why there can be none.
    pub fn make(controller: &str, name: &str) -> Result<Self, String> {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let roots = if v1.is_dir() { vec![v1] } else { vec![PathBuf::from("/sys/fs/cgroup")] };
        let path = roots[0].join(format!("nvlaunch-test-{name}"));
        fs::create_dir(&path).map_err(|error| format!("no cgroup {}: {error}", path.display()))?;
        Ok(Self { path })
    }

    /// Writes one of its files.
    pub fn set(&self, file: &str, value: &str) -> Result<(), String> {
        let path = self.path.join(file);
        fs::write(&path, value).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Writes the first of its files that is there.
    pub fn set_one_of(&self, files: &[&str], value: &str) -> Result<(), String> {
        let found = files.iter().find(|file| self.path.join(file).exists());
        found.map_or(Err(format!("none of {files:?}")), |file| self.set(file, value))
    }

    /// The file by which a process enters.
    pub fn entry(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Whether a file has a line that begins so.
    pub fn says(&self, file: &str, line: &str) -> bool {
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines().any(|l| l.starts_with(line))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = self.set_one_of(&["freezer.state"], "THAWED");
        let _ = self.set_one_of(&["cgroup.freeze"], "0");
        let inside = || fs::read_to_string(self.entry()).unwrap_or_default();
        for pid in inside().lines().filter_map(|pid| pid.parse().ok()) {
            crate::doubles::send(pid, nix::sys::signal::Signal::SIGKILL);
        }
        wait_until("the cgroup is empty", SOON, || inside().is_empty());
        wait_until("the cgroup is removed", SOON, || fs::remove_dir(&self.path).is_ok());
    }
}
