//! The control group whose limit is the tightest, in either version of Linux's control groups.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where groups are mounted; those of the first version each below it.
const MOUNT: &str = "/sys/fs/cgroup";

/// A group that sets a limit, found once: a process seldom moves to another.
#[derive(Debug)]
pub(super) enum Group {
    V1 { cpu: PathBuf, cpuacct: PathBuf },
    V2(PathBuf),
}

impl Group {
    /// That of this process, or the one above it that has the tightest limit.
    pub(super) fn own() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::find(Path::new(MOUNT), &groups)
    }

    /// By the lines of `/proc/self/cgroup`.
    fn find(mount: &Path, groups: &str) -> Option<Self> {
        let v2 = path_of(groups, None).unwrap_or("/");
        let v2 = up_from(v2).map(|path| Self::V2(mount.join(path)));
        let v1 = path_of(groups, Some("cpu")).unwrap_or("/");
        let v1 = up_from(v1).map(|path| Self::V1 {
            cpu: mount.join("cpu").join(path),
            cpuacct: mount.join("cpuacct").join(path),
        });
        let limited = v2
            .chain(v1)
            .filter_map(|group| Some((group.limit()?, group)));
        let tightest = limited.min_by(|(one, _), (other, _)| one.total_cmp(other));
        tightest.map(|(_, group)| group)
    }

    /// How many processors' time the group may use, if not all.
    pub(super) fn limit(&self) -> Option<f64> {
        match self {
            Self::V1 { cpu, .. } => {
                let quota = number(&read(cpu, "cpu.cfs_quota_us")?)?; // of none it is negative
                ratio(quota, number(&read(cpu, "cpu.cfs_period_us")?)?)
            }
            Self::V2(path) => parse_max(&read(path, "cpu.max")?),
        }
    }

    /// The time that the group has used.
    pub(super) fn used(&self) -> Option<Duration> {
        match self {
            Self::V1 { cpuacct, .. } => Some(Duration::from_nanos(number(&read(
                cpuacct,
                "cpuacct.usage",
            )?)?)),
            Self::V2(path) => parse_stat(&read(path, "cpu.stat")?),
        }
    }
}

/// A group, and those above it, below where they are mounted.
fn up_from(path: &str) -> impl Iterator<Item = &Path> {
    let path = Path::new(path).strip_prefix("/").unwrap_or(Path::new(""));
    path.ancestors()
}

fn read(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn ratio(quota: u64, period: u64) -> Option<f64> {
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// The path of the group that has this controller; without one, that of the second version.
fn path_of<'a>(groups: &'a str, controller: Option<&str>) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match controller {
            None => id == "0" && controllers.is_empty(),
            Some(wanted) => controllers.split(',').any(|found| found == wanted),
        };
        is_it.then_some(path)
    })
}

/// `cpu.max`: a quota, or `max`, and the period.
fn parse_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(number(quota)?, number(period)?)
}

/// `cpu.stat`: the line with the time used, in microseconds.
fn parse_stat(text: &str) -> Option<Duration> {
    let used = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    number(used).map(Duration::from_micros)
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    /// Files below a directory of their own, gone with it.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = format!("steadfast-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(root);
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_second_version_is_read_at_the_tightest_limit_up_the_tree() {
        let files = [
            ("cpu.stat", "usage_usec 9\n"),
            ("a/cpu.max", "150000 100000\n"),
            ("a/cpu.stat", "nr_periods 4\nusage_usec 2500\nuser_usec 1\n"),
            ("a/b/cpu.max", "max 100000\n"),
            ("a/b/c/cpu.max", "200000 100000\n"),
        ];
        let tree = Tree::new("v2", &files);
        let group = Group::find(&tree.0, "1:name=systemd:/x\n0::/a/b/c\n").unwrap();
        assert_eq!(group.limit(), Some(1.5));
        assert_eq!(group.used(), Some(Duration::from_micros(2_500)));
    }

    #[test]
    fn the_first_version_is_read_also_where_the_mount_is_the_containers_own() {
        let files = [
            ("cpu/cpu.cfs_quota_us", "50000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpuacct/cpuacct.usage", "123456789\n"),
        ];
        let tree = Tree::new("v1", &files);
        let groups = "4:cpu,cpuacct:/docker/0123\n3:memory:/docker/0123\n";
        let group = Group::find(&tree.0, groups).unwrap();
        assert_eq!(group.limit(), Some(0.5));
        assert_eq!(group.used(), Some(Duration::from_nanos(123_456_789)));
    }

    #[test]
    fn without_a_limit_there_is_no_group() {
        let files = [
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("a/cpu.max", "max 100000\n"),
        ];
        let tree = Tree::new("none", &files);
        assert!(Group::find(&tree.0, "4:cpu:/\n0::/a\n").is_none());
        assert!(Group::find(&tree.0, "").is_none());
        assert!(Group::find(Path::new("/nowhere"), "0::/../a\nnonsense\n:::").is_none());
    }

    #[test]
    fn what_cannot_be_understood_is_no_limit() {
        for text in [
            "",
            "max",
            "max 100000",
            "0 100000",
            "1 0",
            "-1 100000",
            "1e5 1",
            "100000",
        ] {
            assert_eq!(parse_max(text), None, "{text}");
        }
        for text in ["", "usage_usec", "usage_usec x", "user_usec 5"] {
            assert_eq!(parse_stat(text), None, "{text}");
        }
    }
}
