// SPDX-License-Identifier: Apache-2.0
//! Cutting the thread's capability sets down: capabilities(7).

use caps::{CapSet, Capability, CapsHashSet};

use super::Error;

/// Keeps `keep`, as far as it is permitted now, in the permitted and the
/// effective set; empties the inheritable and the ambient set; cuts the
/// bounding set down to `keep`. Returns false where the bounding set had to be
/// left alone.
pub(super) fn apply(keep: &[Capability]) -> Result<bool, Error> {
    let failed = |set| move |source| Error::Capabilities { set, source };
    let kept: CapsHashSet = caps::read(None, CapSet::Permitted)
        .map_err(failed("permitted"))?
        .into_iter()
        .filter(|capability| keep.contains(capability))
        .collect();

    // While the thread still has CAP_SETPCAP, which dropping from this set takes.
    let bounded =
        caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(failed("effective"))?;
    if bounded {
        for capability in caps::read(None, CapSet::Bounding).map_err(failed("bounding"))? {
            if !keep.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(failed("bounding"))?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable"))?;
    // The effective set first: the permitted one may not become smaller than it.
    caps::set(None, CapSet::Effective, &kept).map_err(failed("effective"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("permitted"))?;
    Ok(bounded)
}
