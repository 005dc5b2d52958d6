// SPDX-License-Identifier: Apache-2.0
//! The program: see the library.
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use pkg::bundle::{self, Described};
use pkg::yaml;

/// Builds lkinit's packages and LinuxKit images without Docker.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bundles(Bundles),
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

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bundles(args) => args.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pkg: {error:#}");
            ExitCode::FAILURE
        }
    }
}
