// SPDX-License-Identifier: Apache-2.0
//! The program: see the library.
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use kernel::check;
use pkg::build::{self, Compress, Format};
use pkg::bundle::{self, Described};
use pkg::debian::Suite;
use pkg::packages::Revision;
use pkg::store::Store;
use pkg::{distro, packages, tarball, yaml};

/// Builds lkinit's packages and LinuxKit images without Docker.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Build(Build),
    Bundles(Bundles),
    Distro(Distro),
    Images(Images),
    Kernel(Kernel),
    KernelCheck(KernelCheck),
    Root(Root),
    Tags(Tags),
}

/// Assemble a bootable image from local images, as `linuxkit build` does
#[derive(clap::Args)]
struct Build {
    /// The image's YAML
    #[arg(value_name = "IMAGE.yml")]
    yaml: PathBuf,
    /// What the files' names begin with [default: the YAML's name]
    #[arg(long)]
    name: Option<String>,
    /// Where the files are written
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// A folder of OCI image-layout tars; the first that has an image wins
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    images: Vec<PathBuf>,
    /// What is written
    #[arg(long, value_enum, default_value_t = Format::KernelInitrd)]
    format: Format,
    /// How the ramdisk or file system is compressed
    #[arg(long, value_enum, default_value_t = Compress::Gzip)]
    compress: Compress,
    /// The architecture to build for, by Go's name
    #[arg(long, value_name = "ARCH", default_value = "amd64")]
    arch: String,
}

impl Build {
    fn run(&self) -> Result<()> {
        let source = yaml::Source::read(&self.yaml)?;
        let store = Store::open(&self.images, &self.arch)?;
        let image = build::assemble(&source, &store).with_context(|| self.yaml.display().to_string())?;
        let name = match (&self.name, self.yaml.file_stem()) {
            (Some(name), _) => name.clone(),
            (None, stem) => stem.unwrap_or_default().to_string_lossy().into_owned(),
        };
        for path in build::write(&image, self.format, self.compress, &self.dir, &name)? {
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// Print what an image would have below /containers, as JSON
#[derive(clap::Args)]
struct Bundles {
    /// JSON: full image reference -> entrypoint, cmd, env, working_dir, label
    #[arg(long, value_name = "IMAGES.json")]
    images: PathBuf,
    /// The image's YAML
    #[arg(value_name = "IMAGE.yml")]
    yaml: PathBuf,
}

impl Bundles {
    fn run(&self) -> Result<()> {
        let source = yaml::Source::read(&self.yaml)?;
        let images = Described::read(&self.images)?;
        let plan = bundle::plan(&source.config, &images).with_context(|| self.yaml.display().to_string())?;
        println!("{}", serde_json::to_string_pretty(&plan.to_json()?)?);
        Ok(())
    }
}

/// What the packages are made from
#[derive(clap::Args)]
struct Programs {
    /// The folder of the guest programs
    #[arg(long, value_name = "DIR", default_value = "target/x86_64-unknown-linux-gnu/guest")]
    bin: PathBuf,
    /// A static busybox for users' scripts
    #[arg(long, value_name = "FILE", default_value = "/bin/busybox")]
    busybox: PathBuf,
    /// The architecture the images are for, by Go's name
    #[arg(long, value_name = "ARCH", default_value = "amd64")]
    arch: String,
    /// Where Debian's packages are kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/debian")]
    cache: PathBuf,
}

impl Programs {
    fn suite(&self) -> Result<Suite> {
        Suite::new(packages::SUITE, &self.cache)
    }

    fn inputs<'a>(&'a self, debian: Option<&'a Suite>) -> packages::Inputs<'a> {
        packages::Inputs { bin: &self.bin, busybox: &self.busybox, architecture: &self.arch, debian }
    }
}

/// Write our packages as OCI image-layout tars, for `linuxkit cache import`
#[derive(clap::Args)]
struct Images {
    #[command(flatten)]
    programs: Programs,
    /// Where NAME.tar is written
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    out: PathBuf,
}

impl Images {
    fn run(&self) -> Result<()> {
        let suite = self.programs.suite()?;
        let revision = Revision::of(Path::new("."));
        for path in packages::write_all(&self.programs.inputs(Some(&suite)), &revision, &self.out)? {
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// Print the files of one of our packages as a tar
#[derive(clap::Args)]
struct Root {
    /// The package's name: its folder below pkg
    name: String,
    #[command(flatten)]
    programs: Programs,
}

impl Root {
    fn run(&self) -> Result<()> {
        let suite = packages::has_tools(&self.name)?.then(|| self.programs.suite()).transpose()?;
        let tree = packages::tree(&self.name, &self.programs.inputs(suite.as_ref()))?;
        tarball::write(&tree, std::io::stdout().lock())
    }
}

/// Print each of our packages with the tag that `linuxkit pkg show-tag` gives it
#[derive(clap::Args)]
struct Tags {}

impl Tags {
    fn run(&self) -> Result<()> {
        for (name, tag) in packages::tags(&Revision::of(Path::new(".")))? {
            println!("lkinit/{name}:{tag}");
        }
        Ok(())
    }
}

/// Write runtimes, containerd, busybox and a getty from Debian's packages
#[derive(clap::Args)]
struct Distro {
    #[command(flatten)]
    options: distro::Options,
}

impl Distro {
    fn run(&self) -> Result<()> {
        distro::distro(&self.options).map(drop)
    }
}

/// Write kernel images from Debian's cloud kernel packages
#[derive(clap::Args)]
struct Kernel {
    /// bookworm (6.1), trixie (6.12) or testing; all of them where none is named
    #[arg(long, value_name = "SUITE")]
    suite: Option<String>,
    /// Store the modules without compression
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    options: distro::Options,
}

impl Kernel {
    fn run(&self) -> Result<()> {
        let storage = if self.plain { distro::Storage::Plain } else { distro::Storage::AsPackaged };
        distro::kernels(self.suite.as_deref(), &self.options, storage).map(drop)
    }
}

/// Say what a kernel lacks of what lkinit needs, and what will not work without
#[derive(clap::Args)]
struct KernelCheck {
    /// A kernel's configuration, plain or compressed, or a kernel that holds its own
    file: PathBuf,
}

impl KernelCheck {
    fn run(&self) -> Result<()> {
        let report = check::check(&check::read(&self.file)?);
        println!("{report}");
        ensure!(report.is_enough(), "{} is not enough for lkinit", self.file.display());
        Ok(())
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Build(args) => args.run(),
        Command::Bundles(args) => args.run(),
        Command::Distro(args) => args.run(),
        Command::Images(args) => args.run(),
        Command::Kernel(args) => args.run(),
        Command::KernelCheck(args) => args.run(),
        Command::Root(args) => args.run(),
        Command::Tags(args) => args.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pkg: {error:#}");
            ExitCode::FAILURE
        }
    }
}
