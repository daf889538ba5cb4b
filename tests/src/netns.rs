//! A network namespace for a test, with a sysfs of its own that shows it.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use crate::skip::{program_or_skip, root_or_skip};

/// Runs `test` on a thread in a new network namespace, with the path of a sysfs that shows it; skips the test
/// `name` aloud without root or the program `ip`. Threads and processes that `test` starts are in there too.
///
/// # Panics
/// When the namespace can't be made, or the test panics.
pub fn in_network_namespace(name: &str, test: impl FnOnce(&Path) + Send) {
    if !root_or_skip(name) || program_or_skip(name, &["ip"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: no pointer is passed; only this thread and what it starts are moved.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
            assert_eq!(moved, 0, "unshare: {}", std::io::Error::last_os_error());
            mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE);
            mount("sysfs", folder.path(), "sysfs", 0);
            test(folder.path());
        });
        thread.join()
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong) {
    let text = |text: &OsStr| CString::new(text.as_bytes()).expect("no NUL within");
    let (source, target, kind) = (text(source.as_ref()), text(target.as_os_str()), text(kind.as_ref()));
    // SAFETY: the strings outlive the call, and no data is passed.
    let mounted =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    assert_eq!(mounted, 0, "mount: {}", std::io::Error::last_os_error());
}

/// Runs a program with these arguments, cut at blanks; false when it fails.
///
/// # Panics
/// When it can't be started.
pub fn try_run(program: &str, arguments: &str) -> bool {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}")).status.success()
}

/// As [`try_run`].
///
/// # Panics
/// When it fails.
pub fn run(program: &str, arguments: &str) {
    assert!(try_run(program, arguments), "{program} {arguments}");
}
