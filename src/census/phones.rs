//! Who logs in with which phone.
//!
//! Families share phones, so a phone never says that two rows are one person; it only must not be the login of two
//! accounts. Whoever holds it in V2 keeps it; else the first row in order that founds an account gets it.

use super::decision::{ConflictKind, Settlement};
use super::existing::{Existing, NOBODY};
use super::result::{ConflictLine, Special};
use super::survey::{Rows, flag};
use crate::plan::Policy;

/// Decides all phones: sets the flags of rows, and adds conflicts.
pub(super) fn decide(
    rows: &mut Rows,
    existing: &Existing,
    phones: &mut Vec<u64>,
    specials: &[Special],
    conflicts: &mut Vec<ConflictLine>,
) {
    let count = phones.iter().filter(|phone| **phone != 0).count();
    let mut claims: Vec<(u64, u32)> = Vec::with_capacity(count);
    // Only founders claim a phone for their account: what a merged row has is a contact.
    let mut specials_left = specials.iter().peekable();
    for (row, phone) in (0..).zip(phones.iter()) {
        let special = specials_left.next_if(|special| special.row == row);
        let founds = match special {
            Some(special) => special.number == row && special.reject.is_none(),
            // Nobody took a close look at it, but the ledger says that another row founded its account.
            None => !rows.has(row, flag::JOINED),
        };
        if *phone != 0 && founds {
            claims.push((*phone, row));
        }
    }
    claims.sort_unstable();
    for (row, phone) in phones.iter().enumerate() {
        // V1 has none any more, which is nobody else's business.
        if *phone == 0 {
            rows.flags[row] &= !flag::PHONE_DIFFERS;
        }
    }
    for same in claims.chunk_by(|a, b| a.0 == b.0) {
        settle(rows, existing, same, conflicts);
    }
    drop(claims);
    for special in specials.iter().filter(|special| special.number != special.row) {
        let (row, founder) = (special.row as usize, special.number as usize);
        let founders = phones.get(founder).copied().unwrap_or_default();
        if phones[row] != 0 && phones[row] == founders && rows.has(special.number, flag::PHONE_LOGIN) {
            rows.flags[row] |= flag::PHONE_LOGIN;
        }
    }
    *phones = Vec::new();
}

/// One phone and the rows that claim it, in order.
fn settle(rows: &mut Rows, existing: &Existing, same: &[(u64, u32)], conflicts: &mut Vec<ConflictLine>) {
    let holder = existing.phone_holders(same[0].0).next();
    let holder = holder.map(|by| existing.ours.get(by as usize).map_or(NOBODY, |known| known.row));
    // A phone that is new in V1 and that nobody else has.
    if let ([(_, row)], None) = (same, holder) {
        rows.flags[*row as usize] &= !flag::PHONE_DIFFERS;
    }
    // Any other row whose account has another phone in V2 claims nothing.
    let claims = |rows: &Rows, row: u32| !rows.has(row, flag::PHONE_DIFFERS);
    let login = match holder {
        Some(row) => row,
        None => same.iter().map(|(_, row)| *row).find(|row| claims(rows, *row)).unwrap_or(NOBODY),
    };
    for (_, row) in same {
        let row = *row;
        if row == login {
            rows.flags[row as usize] |= flag::PHONE_LOGIN;
            continue;
        }
        if !claims(rows, row) {
            continue;
        }
        // What the ledger has as migrated is not undone by a phone that came later.
        let reject = rows.rules.policies.same_phone == Policy::Reject && !rows.has(row, flag::IN_LEDGER);
        let settlement = if reject { Settlement::Rejected } else { Settlement::ContactOnly };
        if reject {
            rows.flags[row as usize] |= flag::PHONE_REJECTED;
        }
        conflicts.push(ConflictLine { row, other: login, kind: ConflictKind::PhoneShared, settlement });
    }
}
