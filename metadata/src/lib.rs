// SPDX-License-Identifier: Apache-2.0
//! instance metadata and user data, from every provider
