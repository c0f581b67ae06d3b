//! Two machines that one run shares: network namespaces, where this user may make them.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::ranks::{alone, by, end, is_open_mpi, launchers, processes};
use crate::support::*;

/// Two joined network namespaces, which go with the test.
struct Machines {
    namespaces: [String; 2],
    links: [String; 2],
    /// Runs a command on the machine of an address, as a remote shell does.
    shell: PathBuf,
}

const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

fn ip(arguments: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Machines {
    /// `None` where the system does not allow them.
    fn new(folder: &Path) -> Option<Self> {
        let id = process::id();
        let namespaces = ["a", "b"].map(|end| format!("fovea-{id}-{end}"));
        let links = ["a", "b"].map(|end| format!("fv{id}{end}"));
        let shell = folder.join("shell");
        let machines = Self { namespaces, links, shell };
        let Self { namespaces: [a, b], links, .. } = &machines;
        let made = ip(&["netns", "add", a])
            && ip(&["netns", "add", b])
            && ip(&[
                "link", "add", &links[0], "netns", a, "type", "veth", "peer", "name", &links[1], "netns", b,
            ]);
        let joined = made
            && [a, b].into_iter().zip(links).zip(ADDRESSES).all(|((namespace, link), address)| {
                ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", link])
                    && ip(&["-n", namespace, "link", "set", link, "up"])
                    && ip(&["-n", namespace, "link", "set", "lo", "up"])
            });
        // A name and memory of its own, too: MPI must not take the two for one machine.
        let script = format!(
            "#!/bin/sh\nwhile [ \"${{1#-}}\" != \"$1\" ]; do shift; done\ncase $1 in {}) n={a};; *) n={b};; esac\nshift\n\
             exec ip netns exec $n unshare --uts --ipc --mount sh -c \"hostname $n; mount -t tmpfs none /dev/shm; \
             exec $*\"\n",
            ADDRESSES[0]
        );
        fs::write(&machines.shell, script).unwrap();
        fs::set_permissions(&machines.shell, fs::Permissions::from_mode(0o755)).unwrap();
        // The system says that a link is up a moment after both of its ends are.
        let is_up = |(namespace, link): (&String, &String)| {
            let shown = Command::new("ip").args(["-n", namespace, "link", "show", link]).output();
            shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).contains("state UP"))
        };
        let begin = Instant::now();
        while joined && ![a, b].into_iter().zip(links).all(is_up) {
            assert!(begin.elapsed() < Duration::from_secs(30), "the link between the namespaces stays down");
            thread::sleep(Duration::from_millis(20));
        }
        let works = |address| {
            let mut command = Command::new(&machines.shell);
            command
                .args([address, "true"])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        (joined && ADDRESSES.into_iter().all(works)).then_some(machines)
    }

    /// `mpiexec` on the first machine, with a process on each.
    fn run(&self, mpiexec: &Path, trainer: &Command) -> Command {
        let hosts = ADDRESSES.map(|address| format!("{address}:1")).join(",");
        let options = ["-launcher", "ssh", "-launcher-exec", text(&self.shell), "-localhost", ADDRESSES[0]];
        let more = ["-iface", &self.links[0], "-hosts", &hosts, "-n", "2"];
        let inner = by(mpiexec, &[&options[..], &more].concat(), trainer);
        let mut command = Command::new(&self.shell);
        command.arg(ADDRESSES[0]).arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap());
        }
        command
    }

    fn cut(&self) {
        assert!(ip(&["-n", &self.namespaces[0], "link", "set", &self.links[0], "down"]));
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            ip(&["netns", "del", namespace]);
        }
    }
}

#[test]
fn when_a_machine_is_cut_off_the_run_ends_on_both_and_can_be_resumed() {
    let Some(mpiexec) = launchers().into_iter().find(|mpiexec| !is_open_mpi(mpiexec)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(machines) = Machines::new(folder.path()) else {
        println!("skipped: network namespaces need `ip netns`, `unshare` and root");
        return;
    };
    let [run, errors] = ["run", "errors"].map(|name| folder.path().join(name));
    let long = ["--limit-batches=100000", "--parts", "2", "--deadline", "5", "--run", text(&run)];
    let mut command = machines.run(&mpiexec, &alone(&long));
    let child = command.stdout(Stdio::null()).stderr(File::create(&errors).unwrap()).spawn().unwrap();
    let steps = || fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |lines| lines.lines().count());
    let begin = Instant::now();
    while steps() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(120), "{}", fs::read_to_string(&errors).unwrap());
        thread::sleep(Duration::from_millis(20));
    }
    machines.cut();
    let code = end(child, Duration::from_secs(60));
    let shown = fs::read_to_string(&errors).unwrap();
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {shown}");
    assert!(shown.contains("of 2 waited") && shown.contains("lost its network"), "{shown}");
    let cut_off = Instant::now();
    while !processes(&run).is_empty() {
        assert!(cut_off.elapsed() < Duration::from_secs(30), "{:?} remain", processes(&run));
        thread::sleep(Duration::from_millis(20));
    }
    let limit = format!("--limit-batches={}", steps() + 2);
    succeed(&mut trainer(&["--resume", text(&run), &limit, "--threads=1", "--set=evaluation.at_end=center"]));
}
