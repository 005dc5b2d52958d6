// SPDX-License-Identifier: Apache-2.0
//! Packages of a Debian suite, fetched without touching the system's own
//! package state.
//!
//! apt gets a configuration, lists and a cache of its own below the cache
//! folder, one set for each suite; packages are only unpacked (`dpkg -x`), never
//! installed, so no maintainer script runs and root is not needed. The mirror
//! is the one this machine already uses, with the suite replaced, and the
//! archive keys are the system's.
//!
//! What was unpacked once stays: a second call with the same request reads a
//! stamp file and neither downloads nor runs anything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The archive keys of Debian, as its own package installs them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which of a package's dependencies come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// None: exactly the packages named.
    Nothing,
    /// Shared libraries, that is packages called `lib…` and zlib's.
    Libraries,
    /// The parts a kernel is split into: its metapackage depends on the image,
    /// and since Linux 7 that depends on binary, modules and base packages.
    Kernel,
}

impl Follow {
    fn accepts(self, package: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Libraries => package.starts_with("lib") || package == "zlib1g",
            Self::Kernel => package.starts_with("linux-") && package != "linux-base",
        }
    }
}

/// A package as the suite's index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its full version, with epoch and revision.
    pub version: String,
    architecture: String,
    depends: Vec<String>,
}

impl Package {
    /// The file name `apt-get download` gives it.
    fn file_name(&self) -> String {
        let version = self.version.replace(':', "%3a");
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }
}

/// Unpacked packages.
#[derive(Clone, Debug)]
pub struct Root {
    /// The folder they were unpacked in, laid out like `/`.
    pub path: PathBuf,
    /// What is in it, as (package, version).
    pub packages: Vec<(String, String)>,
}

impl Root {
    /// The upstream version of `package`: `1.6.20` of `1.6.20~ds1-1+deb12u3`.
    pub fn upstream_version(&self, package: &str) -> Option<&str> {
        let (_, version) = self.packages.iter().find(|(name, _)| name == package)?;
        let version = version.split_once(':').map_or(version.as_str(), |(_, v)| v);
        version.split(['-', '~', '+']).next()
    }
}

/// One suite (`bookworm`, `trixie`, `testing`) and the folder that caches it.
#[derive(Clone, Debug)]
pub struct Suite {
    name: String,
    dir: PathBuf,
}

impl Suite {
    /// The suite `name`, cached below `cache` (usually `target/debian`).
    pub fn new(name: &str, cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache).with_context(|| format!("making {}", cache.display()))?;
        // apt changes its working directory: the paths it is given are absolute.
        let cache = cache.canonicalize()?;
        Ok(Self { name: name.to_owned(), dir: cache.join(name) })
    }

    /// The folder that caches this suite.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Unpacks `packages`, and of what they depend on what `follow` accepts,
    /// into one folder called after `name`.
    ///
    /// The same request again is answered from the cache, without a network.
    pub fn unpack(&self, name: &str, packages: &[&str], follow: Follow) -> Result<Root> {
        fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        // Two builds at once would write the same lists and folders.
        let lock = fs::File::create(self.dir.join("lock"))?;
        lock.lock().with_context(|| format!("locking {}", self.dir.display()))?;

        let path = self.dir.join(format!("root-{name}"));
        let stamp = self.dir.join(format!("root-{name}.stamp"));
        let request = format!("{} {follow:?}", packages.join(" "));
        if let Some(packages) = read_stamp(&stamp, &request).filter(|_| path.is_dir()) {
            return Ok(Root { path, packages });
        }
        let found = self
            .resolve(packages, follow)
            .and_then(|found| self.download(&found).map(|()| found))
            .with_context(|| format!("fetching {} from Debian {}", packages.join(", "), self.name))?;

        // The stamp goes first and comes back last: what is half done has none.
        let fresh = self.dir.join(format!("root-{name}.new"));
        if stamp.exists() {
            fs::remove_file(&stamp)?;
        }
        for old in [&fresh, &path] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("removing {}", old.display()))?;
            }
        }
        for package in &found {
            let deb = self.archives().join(package.file_name());
            run(Command::new("dpkg").arg("-x").arg(&deb).arg(&fresh))?;
        }
        fs::rename(&fresh, &path)?;
        let packages: Vec<_> = found.into_iter().map(|p| (p.name, p.version)).collect();
        write_stamp(&stamp, &request, &packages)?;
        Ok(Root { path, packages })
    }

    fn archives(&self) -> PathBuf {
        self.dir.join("archives")
    }

    /// The packages a request stands for, dependencies after dependants.
    fn resolve(&self, packages: &[&str], follow: Follow) -> Result<Vec<Package>> {
        self.update()?;
        let mut found: Vec<Package> = Vec::new();
        let mut seen: BTreeSet<String> = packages.iter().map(|&p| p.to_owned()).collect();
        let mut wanted: Vec<String> = seen.iter().cloned().collect();
        while !wanted.is_empty() {
            let text = run(self.apt("apt-cache").args(["show", "--no-all-versions"]).args(&wanted))?;
            let level = parse_packages(&text);
            for name in &wanted {
                ensure!(level.iter().any(|p| p.name == *name), "Debian {} has no package {name}", self.name);
            }
            wanted.clear();
            for depends in level.iter().flat_map(|p| &p.depends) {
                if follow.accepts(depends) && seen.insert(depends.clone()) {
                    wanted.push(depends.clone());
                }
            }
            found.extend(level);
        }
        Ok(found)
    }

    /// Downloads what is not there yet; apt checks size and hashes.
    fn download(&self, packages: &[Package]) -> Result<()> {
        let missing: Vec<_> = packages
            .iter()
            .filter(|p| !self.archives().join(p.file_name()).exists())
            .map(|p| format!("{}={}", p.name, p.version))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        eprintln!("debian {}: downloading {}", self.name, missing.join(" "));
        run(self.apt("apt-get").current_dir(self.archives()).arg("download").args(&missing))?;
        Ok(())
    }

    /// Writes apt's configuration and fetches the suite's index, once a day:
    /// an index that is older may name packages the mirror has dropped.
    fn update(&self) -> Result<()> {
        let stamp = self.dir.join("index.stamp");
        let age = fs::metadata(&stamp).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() < 24 * 3600) {
            return Ok(());
        }
        ensure!(
            Path::new(KEYRING).exists(),
            "{KEYRING} is missing: install the package debian-archive-keyring"
        );
        let mirrors = Mirrors::of_this_machine()?;
        for folder in ["lists/partial", "cache/archives/partial", "archives"] {
            fs::create_dir_all(self.dir.join(folder))?;
        }
        fs::write(self.dir.join("status"), "")?;
        fs::write(self.dir.join("sources.list"), mirrors.sources(&self.name))?;
        fs::write(self.dir.join("apt.conf"), self.configuration())?;
        eprintln!("debian {}: reading the package index", self.name);
        let mut apt = self.apt("apt-get");
        apt.args(["update", "--error-on=any"]);
        run(&mut apt)
            .with_context(|| format!("is the mirror of this machine ({}) reachable?", mirrors.main))?;
        fs::write(&stamp, "")?;
        Ok(())
    }

    /// The system's settings (a proxy, say) stay in force; everything that
    /// names a place is replaced, and so are the hooks that would clean the
    /// system's cache.
    fn configuration(&self) -> String {
        let dir = self.dir.display();
        format!(
            "Dir::State \"{dir}\";\n\
             Dir::State::lists \"lists\";\n\
             Dir::State::status \"{dir}/status\";\n\
             Dir::Cache \"{dir}/cache\";\n\
             Dir::Etc::sourcelist \"{dir}/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferences \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\n\
             Acquire::Languages \"none\";\n\
             APT::Sandbox::User \"\";\n\
             #clear APT::Update::Post-Invoke;\n\
             #clear APT::Update::Post-Invoke-Success;\n\
             #clear Acquire::IndexTargets::deb::DEP-11;\n"
        )
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-q").arg("-c").arg(self.dir.join("apt.conf"));
        command
    }
}

/// Where this machine gets Debian from.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    security: Option<String>,
}

impl Mirrors {
    fn of_this_machine() -> Result<Self> {
        let targets = run(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ]))?;
        Self::parse(&targets).context(
            "this machine's apt sources name no Debian mirror (a source of the component main \
             for a Debian release), so there is none to fetch packages from",
        )
    }

    /// Picks the mirrors out of lines of URI, release and component. Other
    /// archives use Debian's release names too: a URI that ends in `debian`
    /// wins over one that does not.
    fn parse(targets: &str) -> Option<Self> {
        let mut main: Option<&str> = None;
        let mut security = None;
        for line in targets.lines() {
            let mut words = line.split_whitespace();
            let (Some(uri), Some(release), Some("main")) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let is = |uri: &str, name| uri.trim_end_matches('/').ends_with(name);
            if is(uri, "/debian-security") {
                security.get_or_insert_with(|| uri.to_owned());
            } else if RELEASES.contains(&release)
                && main.is_none_or(|m| is(uri, "/debian") && !is(m, "/debian"))
            {
                main = Some(uri);
            }
        }
        Some(Self { main: main?.to_owned(), security })
    }

    fn sources(&self, suite: &str) -> String {
        let mut text = format!("deb [signed-by={KEYRING}] {} {suite} main\n", self.main);
        if let Some(security) = &self.security {
            text += &format!("deb [signed-by={KEYRING}] {security} {suite}-security main\n");
        }
        text
    }
}

/// Names under which a Debian mirror serves a release.
const RELEASES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Reads the records `apt-cache show` prints. Of alternatives (`a | b`) the
/// first counts, as it does for apt.
fn parse_packages(text: &str) -> Vec<Package> {
    text.split("\n\n").filter_map(parse_package).collect()
}

fn parse_package(record: &str) -> Option<Package> {
    let field = |name: &str| {
        record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    };
    let depends = ["Pre-Depends", "Depends"]
        .into_iter()
        .filter_map(field)
        .flat_map(|list| list.split(','))
        .filter_map(|entry| entry.trim().split([' ', ':', '|', '(']).next())
        .map(str::to_owned)
        .collect();
    Some(Package {
        name: field("Package")?.to_owned(),
        version: field("Version")?.to_owned(),
        architecture: field("Architecture")?.to_owned(),
        depends,
    })
}

/// First line: the request. Then a package and its version on each line.
fn read_stamp(stamp: &Path, request: &str) -> Option<Vec<(String, String)>> {
    let text = fs::read_to_string(stamp).ok()?;
    let mut lines = text.lines();
    if lines.next()? != request {
        return None;
    }
    lines.map(|l| l.split_once(' ').map(|(n, v)| (n.to_owned(), v.to_owned()))).collect()
}

fn write_stamp(stamp: &Path, request: &str, packages: &[(String, String)]) -> Result<()> {
    let mut text = format!("{request}\n");
    for (name, version) in packages {
        text += &format!("{name} {version}\n");
    }
    fs::write(stamp, text).with_context(|| format!("writing {}", stamp.display()))
}

/// Runs a program to its end and returns what it printed; its error output is
/// part of the error.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output =
        command.stdin(std::process::Stdio::null()).output().with_context(|| format!("running {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}\n{}", output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debians_own_not_another_archive_with_its_release_names() {
        let targets = "https://apt.example.com/ bookworm main\n\
                       http://mirror.example/debian/ bookworm main\n\
                       http://mirror.example/debian/ bookworm-updates main\n\
                       http://mirror.example/debian-security/ bookworm-security main\n\
                       https://other.example/debian/ bookworm stable\n";
        let mirrors = Mirrors::parse(targets).unwrap();
        assert_eq!(mirrors.main, "http://mirror.example/debian/");
        assert_eq!(mirrors.security.as_deref(), Some("http://mirror.example/debian-security/"));
        let sources = mirrors.sources("trixie");
        assert!(sources.contains("http://mirror.example/debian/ trixie main"), "{sources}");
        assert!(sources.contains("debian-security/ trixie-security main"), "{sources}");
    }

    #[test]
    fn a_mirror_in_another_folder_serves_when_there_is_no_other() {
        let mirrors = Mirrors::parse("http://cache.example/deb/ stable main\n").unwrap();
        assert_eq!(mirrors.main, "http://cache.example/deb/");
        assert_eq!(mirrors.security, None);
        assert_eq!(Mirrors::parse("https://apt.example.com/ nodistro main\n"), None);
    }

    #[test]
    fn dependencies_lose_versions_architectures_and_second_choices() {
        let record = "Package: crun\nVersion: 1:1.21-1\nArchitecture: amd64\n\
                      Pre-Depends: dpkg:any (>= 1)\n\
                      Depends: libc6 (>= 2.38), libcap2 (>= 1:2.10), a | b, c\nHomepage: x\n";
        let packages = parse_packages(&format!("{record}\n{record}"));
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].depends, ["dpkg", "libc6", "libcap2", "a", "c"]);
        assert_eq!(packages[0].file_name(), "crun_1%3a1.21-1_amd64.deb");
    }

    #[test]
    fn a_stamp_answers_only_the_request_it_was_written_for() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = dir.path().join("stamp");
        let packages = vec![("crun".to_owned(), "1.21-1".to_owned())];
        write_stamp(&stamp, "crun Libraries", &packages).unwrap();
        assert_eq!(read_stamp(&stamp, "crun Libraries"), Some(packages));
        assert_eq!(read_stamp(&stamp, "crun Nothing"), None);
        assert_eq!(read_stamp(&dir.path().join("none"), "crun Libraries"), None);
    }

    #[test]
    fn the_upstream_version_has_no_epoch_and_no_revision() {
        let packages = [("a", "1.6.20~ds1-1+deb12u3"), ("b", "1:1.35.0-4"), ("c", "6.12.117-1")];
        let packages = packages.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let root = Root { path: PathBuf::new(), packages };
        assert_eq!(root.upstream_version("a"), Some("1.6.20"));
        assert_eq!(root.upstream_version("b"), Some("1.35.0"));
        assert_eq!(root.upstream_version("c"), Some("6.12.117"));
        assert_eq!(root.upstream_version("d"), None);
    }
}
