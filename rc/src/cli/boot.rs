// SPDX-License-Identifier: Apache-2.0
//! `service boot`: where the boot's time went, by the record of it. Nobody is
//! asked; the record is a file.

use std::path::Path;

use super::args::Options;
use super::output::show;
use super::service::Problem;
use crate::paths;
use crate::timeline::rows::View;
use crate::timeline::{self, chart, table};

/// `service boot [-json|-svg]`.
pub(super) fn boot(options: &Options) -> Result<(), Problem> {
    let path = Path::new(paths::TIMELINE);
    let spans = timeline::load(path).map_err(|error| {
        Problem::Failed(format!("boot: cannot read the record of the boot, {}: {error}", path.display()))
    })?;
    let view = View::new(&spans, timeline::now());
    show(&match (options.svg, options.json) {
        (true, _) => chart::chart(&view),
        (false, true) => format!("{:#}\n", table::json(&view)),
        (false, false) => table::table(&view),
    });
    Ok(())
}
