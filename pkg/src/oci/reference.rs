// SPDX-License-Identifier: Apache-2.0
//! The full form of an image reference.

/// `name[:tag][@digest]` with what is left out filled in: `docker.io`,
/// `library/` and `:latest`, as Docker does.
pub fn normalize(reference: &str) -> String {
    let (domain, path) = match reference.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", reference),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    let library = if domain == "docker.io" && !path.contains('/') { "library/" } else { "" };
    let tag = if path.contains([':', '@']) { "" } else { ":latest" };
    format!("{domain}/{library}{path}{tag}")
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn what_is_left_out_is_filled_in() {
        for (short, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("lkinit/init", "docker.io/lkinit/init:latest"),
            ("docker.io/lkinit/init:1", "docker.io/lkinit/init:1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b@sha256:00"),
        ] {
            assert_eq!(normalize(short), full);
            assert_eq!(normalize(full), full);
        }
    }
}
