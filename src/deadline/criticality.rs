//! The four criticalities as a header spells them. Pure.

use crate::context::Criticality;

pub(super) const fn encode(criticality: Criticality) -> &'static str {
    criticality.as_str()
}

pub(super) fn decode(value: &[u8]) -> Option<Criticality> {
    let spells = |criticality: &Criticality| encode(*criticality).as_bytes() == value;
    Criticality::ALL.into_iter().find(spells)
}
