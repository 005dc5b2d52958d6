// SPDX-License-Identifier: Apache-2.0
//! See docs/kernel.md.

pub mod check;
