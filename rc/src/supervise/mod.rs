// SPDX-License-Identifier: Apache-2.0
//! Services: what keeps them up.

pub mod policy;
pub mod state;
