// SPDX-License-Identifier: Apache-2.0
//! unix sockets over vsock
