// SPDX-License-Identifier: Apache-2.0
//! Stand-in until the branch lands.
use init::cmdline::Cmdline;
use init::console::Console;
/// Stand-in.
pub struct ColdPlug;
impl ColdPlug {
    /// Stand-in.
    pub fn start(_: &Cmdline) -> Self {
        Self
    }
    /// Stand-in.
    pub async fn settle(self, _: &Console) {}
}
