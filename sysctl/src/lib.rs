// SPDX-License-Identifier: Apache-2.0
//! kernel settings from sysctl.d
