//! The four criticalities as a header spells them. Pure.

use crate::context::Criticality;

pub(super) const fn encode(criticality: Criticality) -> &'static str {
    match criticality {
        Criticality::CriticalPlus => "critical_plus",
        Criticality::Critical => "critical",
        Criticality::SheddablePlus => "sheddable_plus",
        Criticality::Sheddable => "sheddable",
    }
}

pub(super) fn decode(value: &[u8]) -> Option<Criticality> {
    let all = [
        Criticality::CriticalPlus,
        Criticality::Critical,
        Criticality::SheddablePlus,
        Criticality::Sheddable,
    ];
    let spells = |criticality: &Criticality| encode(*criticality).as_bytes() == value;
    all.into_iter().find(spells)
}
