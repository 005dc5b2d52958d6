// SPDX-License-Identifier: Apache-2.0
//! Writes `kernel` and `kernel.tar` from an unpacked kernel package.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::index::{Index, module_name};
use crate::modules::WANTED;

/// How modules are stored in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// As the package has them: plain, or `.ko.xz`.
    #[default]
    AsPackaged,
    /// Plain: a larger image, and no decompressor at boot.
    Plain,
}

/// A finished kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Its release, what `uname -r` will say.
    pub release: String,
    /// The file to boot.
    pub kernel: PathBuf,
    /// `/lib/modules` as a tar archive.
    pub tar: PathBuf,
    /// Listed modules this kernel does not have.
    pub absent: Vec<String>,
}

/// What depmod writes that nothing in a guest reads: they serve those who
/// build modules.
const UNREAD: &[&str] = &["modules.symbols", "modules.symbols.bin"];

/// Makes the two files below `work` from the package unpacked in `package`.
///
/// Distributions run depmod when a package is installed; here it runs on the
/// modules alone, once to learn what depends on what, and again on what stays.
/// The same package gives the same bytes.
pub fn build(package: &Path, work: &Path, storage: Storage) -> Result<Kernel> {
    let modules = modules_folder(package)?;
    let release =
        modules.file_name().and_then(|name| name.to_str()).context("a kernel release is text")?.to_owned();
    let image = [modules.join("vmlinuz"), package.join("boot").join(format!("vmlinuz-{release}"))]
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("{} has no vmlinuz for {release}", package.display()))?;
    if work.exists() {
        fs::remove_dir_all(work).with_context(|| format!("emptying {}", work.display()))?;
    }

    let all = Tree::new(&work.join("all"), &release)?;
    for file in files_below(&modules)? {
        all.link(&modules, &file)?;
    }
    all.depmod(&release)?;
    let wanted = WANTED.iter().flat_map(|group| group.names.iter().copied());
    let selection = Index::read(&all.dir)?.select(wanted);

    let some = Tree::new(&work.join("some"), &release)?;
    for file in &selection.files {
        match storage {
            Storage::AsPackaged => some.link(&all.dir, Path::new(file))?,
            Storage::Plain => some.unpack(&all.dir, file)?,
        }
    }
    for table in ["modules.builtin", "modules.builtin.modinfo"] {
        some.link(&modules, Path::new(table))?;
    }
    some.write_order(&modules, storage)?;
    some.depmod(&release)?;

    let kernel = work.join("kernel");
    fs::copy(&image, &kernel)?;
    let tar = work.join("kernel.tar");
    write_tar(&some.base, &tar).with_context(|| format!("writing {}", tar.display()))?;
    Ok(Kernel { release, kernel, tar, absent: selection.absent })
}

/// `/lib/modules/RELEASE` of the package; newer ones have it under `/usr`.
fn modules_folder(package: &Path) -> Result<PathBuf> {
    for lib in ["lib/modules", "usr/lib/modules"] {
        let Ok(entries) = fs::read_dir(package.join(lib)) else {
            continue;
        };
        let mut found = entries.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
        ensure!(found.len() == 1, "{} has {} kernels below {lib}, not one", package.display(), found.len());
        if let Some(path) = found.pop() {
            return Ok(path);
        }
    }
    bail!("{} has no lib/modules: not a kernel package", package.display())
}

/// A folder laid out like `/`, with `/lib/modules/RELEASE` in it.
struct Tree {
    base: PathBuf,
    dir: PathBuf,
}

impl Tree {
    fn new(base: &Path, release: &str) -> Result<Self> {
        let dir = base.join("lib/modules").join(release);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self { base: base.to_owned(), dir })
    }

    /// Takes `file` over from another tree: a hard link where that works.
    fn link(&self, from: &Path, file: &Path) -> Result<()> {
        let to = self.dir.join(file);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        let from = from.join(file);
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).map(drop))
            .with_context(|| format!("copying {} to {}", from.display(), to.display()))
    }

    /// Takes `file` over, decompressed and without the compression's suffix.
    fn unpack(&self, from: &Path, file: &str) -> Result<()> {
        let program = match Path::new(file).extension().and_then(|e| e.to_str()) {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            Some("gz") => "gzip",
            _ => return self.link(from, Path::new(file)),
        };
        let to = self.dir.join(plain_name(file));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        run(Command::new(program).arg("-dc").arg(from.join(file)).stdout(File::create(&to)?))
    }

    /// `modules.order` of what stayed: depmod sorts by it, and warns of every
    /// line that names no file.
    fn write_order(&self, from: &Path, storage: Storage) -> Result<()> {
        let kept: Vec<_> = files_below(&self.dir)?.iter().map(|f| f.display().to_string()).collect();
        let mut order = File::create(self.dir.join("modules.order"))?;
        for line in fs::read_to_string(from.join("modules.order"))?.lines() {
            let name = module_name(line);
            if kept.iter().any(|file| module_name(file) == name) {
                let line = if storage == Storage::Plain { plain_name(line) } else { line };
                writeln!(order, "{line}")?;
            }
        }
        Ok(())
    }

    fn depmod(&self, release: &str) -> Result<()> {
        run(Command::new(depmod()).arg("-b").arg(&self.base).arg(release))?;
        for table in UNREAD {
            fs::remove_file(self.dir.join(table))?;
        }
        Ok(())
    }
}

/// depmod is an administrator's program: a user's PATH may not have its folder.
fn depmod() -> &'static str {
    ["/usr/sbin/depmod", "/sbin/depmod"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("depmod")
}

fn plain_name(file: &str) -> &str {
    file.find(".ko").map_or(file, |at| &file[..at + ".ko".len()])
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|child| child.wait_with_output())
        .with_context(|| format!("running {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, said.trim_end());
    Ok(())
}

/// Every regular file below `dir`, relative to it, sorted.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    walk(dir, &mut |path, kind| {
        if kind.is_file() {
            files.push(path.strip_prefix(dir)?.to_owned());
        }
        Ok(())
    })?;
    Ok(files)
}

/// Visits what is below `dir`, parents first, each folder in name order.
fn walk(dir: &Path, visit: &mut dyn FnMut(&Path, fs::FileType) -> Result<()>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        visit(&path, kind)?;
        if kind.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

/// A tar whose bytes depend on names and contents only.
fn write_tar(base: &Path, to: &Path) -> Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::new(File::create(to)?));
    walk(base, &mut |path, kind| {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let name = path.strip_prefix(base)?;
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, name, io::empty())?;
        } else {
            let file = File::open(path)?;
            header.set_mode(0o644);
            header.set_size(file.metadata()?.len());
            archive.append_data(&mut header, name, file)?;
        }
        Ok(())
    })?;
    archive.into_inner()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tar_depends_on_names_and_contents_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut archives = Vec::new();
        for (tree, order) in [("a", ["x", "y"]), ("b", ["y", "x"])] {
            let base = dir.path().join(tree);
            for name in order {
                let folder = base.join("lib").join(name);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("file"), name).unwrap();
            }
            let to = dir.path().join(format!("{tree}.tar"));
            write_tar(&base, &to).unwrap();
            archives.push(fs::read(to).unwrap());
        }
        assert_eq!(archives[0], archives[1]);
        assert!(archives[0].len() > 1024);
    }

    #[test]
    fn a_package_with_no_modules_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = build(dir.path(), &dir.path().join("work"), Storage::default()).unwrap_err();
        assert!(error.to_string().contains("not a kernel package"), "{error}");
    }

    #[test]
    fn a_plain_name_ends_in_ko() {
        assert_eq!(plain_name("kernel/fs/xfs.ko.xz"), "kernel/fs/xfs.ko");
        assert_eq!(plain_name("kernel/fs/xfs.ko"), "kernel/fs/xfs.ko");
    }
}
