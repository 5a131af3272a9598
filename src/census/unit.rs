//! Each policy and each rule of order, one at a time.

use std::collections::HashMap;

use super::town::*;
use super::*;
use crate::plan::Policy;

fn emails(decisions: &[Spelled]) -> Vec<Option<&str>> {
    decisions.iter().map(|spelled| spelled.email.as_deref()).collect()
}

#[test]
fn one_person_in_two_entities_has_one_account() {
    let town = [
        resident(0, "t1", "Jane@School.org ", "", "Jane Obi"),
        resident(1, "p1", "jane@school.org", "", "OBI, Jane"),
        resident(2, "s1", "jane@school.org", "", "Mary Smith"),
    ];
    let decisions = decide(DEFAULT, &town, &[]);
    assert_eq!(
        emails(&decisions),
        [Some("jane@school.org"), Some("jane@school.org"), Some("jane+2@school.org")]
    );
    let accounts: Vec<_> = decisions.iter().map(|spelled| spelled.account().unwrap()).collect();
    assert_eq!(accounts[0].id, account_id(&people()[0].ids, "t1"));
    assert_eq!(accounts[1].id, accounts[0].id);
    assert_eq!(accounts[1].number, 0);
    assert_eq!(accounts[1].founder, Founder::Row { entity: 0, row: 0 });
    assert_eq!(accounts[2].founder, Founder::ThisRow);
    assert_eq!(decisions[0].conflicts, []);
    assert_eq!(decisions[1].conflicts, [(ConflictKind::SamePerson, Settlement::Merged, Some((0, 0)))]);
    assert_eq!(decisions[2].conflicts, [(ConflictKind::OtherPerson, Settlement::Suffixed, Some((0, 0)))]);
}

#[test]
fn policies_for_other_people() {
    let town = [resident(0, "t1", "a@b.org", "", "Jane Obi"), resident(1, "p1", "a@b.org", "", "Mary Smith")];
    let with = |other_person| decide(Policies { other_person, ..DEFAULT }, &town, &[]);
    assert_eq!(with(Policy::KeepFirst)[1].email.as_deref(), Some("parents.p1@placeholder.invalid"));
    assert_eq!(with(Policy::KeepFirst)[1].username.as_deref(), Some("parents.p1"));
    assert_eq!(with(Policy::Reject)[1].decision.outcome, Outcome::Rejected(RejectCode::SharedEmail));
    assert!(with(Policy::Merge)[1].account().unwrap().is_merged());
    let same = [resident(0, "t1", "a@b.org", "", "Jane Obi"), resident(1, "p1", "a@b.org", "", "Jane Obi")];
    let reject = Policies { same_person: Policy::Reject, ..DEFAULT };
    assert_eq!(decide(reject, &same, &[])[1].kinds(), [(ConflictKind::SamePerson, Settlement::Rejected)]);
}

#[test]
fn twice_in_one_entity() {
    let town = [
        resident(0, "t1", "a@b.org", "", "Jane Obi"),
        resident(1, "p1", "a@b.org", "", "Jane Obi"),
        resident(1, "p2", "a@b.org", "", "Jane Obi"),
    ];
    let decisions = decide(DEFAULT, &town, &[]);
    assert_eq!(decisions[2].kinds(), [(ConflictKind::SameEntity, Settlement::Suffixed)]);
    assert_eq!(decisions[2].email.as_deref(), Some("a+2@b.org"));
    let merged = decide(Policies { same_entity: Policy::Merge, ..DEFAULT }, &town[1..], &[]);
    assert_eq!(merged[1].account().unwrap().founder, Founder::Row { entity: 1, row: 0 });
    assert_eq!(merged[1].kinds(), [(ConflictKind::SameEntity, Settlement::Merged)]);
}

#[test]
fn a_suffix_avoids_everything_that_anybody_has() {
    let town = [
        resident(0, "t1", "a@b.org", "", "Jane Obi"),
        resident(0, "t2", "a@b.org", "", "Mary Smith"),
        resident(0, "t3", "a@b.org", "", "Peter Pan"),
        resident(2, "s1", "a+2@b.org", "", "Own Address"),
    ];
    let v2 = [foreign("A+3@b.org", "", ""), foreign("", "", "a+4@b.org")];
    let decisions = decide(DEFAULT, &town, &v2);
    assert_eq!(
        emails(&decisions),
        [Some("a@b.org"), Some("a+5@b.org"), Some("a+6@b.org"), Some("a+2@b.org")]
    );
}

#[test]
fn never_merges_into_an_account_of_somebody_else() {
    let town = [resident(0, "t1", "a@b.org", "", "Jane Obi"), resident(1, "p1", "a@b.org", "", "Jane Obi")];
    let v2 = [foreign("a@b.org", "", "")];
    let decisions = decide(Policies { other_person: Policy::Merge, ..DEFAULT }, &town, &v2);
    assert_eq!(emails(&decisions), [Some("a+2@b.org"), Some("a+2@b.org")]);
    assert_eq!(decisions[0].conflicts, [(ConflictKind::HeldInV2, Settlement::Suffixed, None)]);
    assert_eq!(decisions[1].account().unwrap().id, decisions[0].account().unwrap().id);
}

#[test]
fn families_share_a_phone_but_no_account() {
    let town = [
        resident(1, "p1", "", "+2348031234567", "Jane Obi"),
        resident(2, "s1", "", "+2348031234567", "Jane Obi"),
        resident(2, "s2", "", "call me", "Tim Obi"),
    ];
    let decisions = decide(DEFAULT, &town, &[]);
    let phones: Vec<_> = decisions.iter().map(|spelled| spelled.account().unwrap().phone).collect();
    assert_eq!(phones, [PhoneDecision::Login, PhoneDecision::ContactOnly, PhoneDecision::ContactOnly]);
    assert!(decisions.iter().all(|spelled| !spelled.account().unwrap().is_merged()));
    assert_eq!(
        decisions[1].conflicts,
        [
            (ConflictKind::EmailMissing, Settlement::Placeholder, None),
            (ConflictKind::PhoneShared, Settlement::ContactOnly, Some((1, 0)))
        ]
    );
    let reject = Policies { same_phone: Policy::Reject, ..DEFAULT };
    let rejected = decide(reject, &town, &[])[1].decision.outcome;
    assert_eq!(rejected, Outcome::Rejected(RejectCode::SharedPhone));
    let held = decide(DEFAULT, &town, &[foreign("", "0803 123 4567", "")]);
    assert_eq!(held[0].account().unwrap().phone, PhoneDecision::ContactOnly);
}

#[test]
fn the_next_row_can_create_a_shared_account() {
    let phone = "+2348031234567";
    let town = [
        resident(0, "t1", "x@b.org", "", "Peter Pan"),
        resident(0, "t2", "x@b.org", phone, "Jane Obi"),
        resident(1, "p1", "x@b.org", phone, "Jane Obi"),
        resident(2, "s1", "x@b.org", "+2348031234568", "Jane Obi"),
    ];
    let keep = Policies { same_entity: Policy::KeepFirst, ..DEFAULT };
    let decisions = decide(keep, &town, &[]);
    assert_eq!(decisions[2].email.as_deref(), Some("staff.t2@placeholder.invalid"));
    assert_eq!(decisions[2].username.as_deref(), Some("staff.t2"));
    assert_eq!(decisions[2].account().unwrap().phone, PhoneDecision::Login);
    assert_eq!(decisions[3].account().unwrap().phone, PhoneDecision::ContactOnly);
}

#[test]
fn placeholders_and_real_emails_keep_apart() {
    let town = [
        resident(0, "t1", "n/a", "", "Jane Obi"),
        resident(1, "p1", "staff.t1@placeholder.invalid", "", "Jane Obi"),
        resident(2, "s1", "nonsense", "", "Tim Obi"),
        resident(2, "s2", "", "", "Tom Obi"),
    ];
    let v2 = [foreign("", "", "pupils.s2")];
    let decisions = decide(DEFAULT, &town, &v2);
    assert_eq!(decisions[0].email.as_deref(), Some("staff.t1@placeholder.invalid"));
    assert_eq!(decisions[1].email.as_deref(), Some("staff.t1+2@placeholder.invalid"));
    assert_eq!(decisions[1].kinds(), [(ConflictKind::PlaceholderClash, Settlement::Suffixed)]);
    assert_eq!(decisions[2].kinds(), [(ConflictKind::EmailUnusable, Settlement::Placeholder)]);
    assert_eq!(decisions[2].username.as_deref(), Some("pupils.s1"));
    assert_eq!(decisions[3].username.as_deref(), Some("pupils.s2@placeholder.invalid"));
}

#[test]
fn a_doubtful_spelling_never_merges() {
    let town =
        [resident(0, "t1", "jane@b.org", "", "Jane Obi"), resident(1, "p1", "ｊane@b.org", "", "Jane Obi")];
    let decisions = decide(Policies { other_person: Policy::Merge, ..DEFAULT }, &town, &[]);
    assert_eq!(decisions[1].kinds(), [(ConflictKind::DoubtfulEmail, Settlement::Suffixed)]);
}

#[test]
fn v2_comes_first_and_settled_rows_keep_what_they_have() {
    // s1 was migrated; then t1 came with the same email and phone, and s1's phone was changed in V1.
    let phone = "+2348031234567";
    let before = [resident(2, "s1", "a@b.org", phone, "Jane Obi")];
    let v2: Vec<_> = written(&before, &decide(DEFAULT, &before, &[]), &|_| false).into_values().collect();
    let town = [
        resident(0, "t1", "a@b.org", phone, "Mary Smith"),
        resident(1, "p1", "a@b.org", "", "Jane Obi"),
        resident(2, "s1", "a@b.org", "+2348031234568", "Jane Obi"),
    ];
    let census = census(DEFAULT, &town, &v2);
    let decisions = spell(&census, &town);
    assert_eq!(emails(&decisions), [Some("a+2@b.org"), Some("a@b.org"), Some("a@b.org")]);
    assert_eq!(decisions[1].account().unwrap().number, 2);
    assert_eq!(decisions[0].account().unwrap().phone, PhoneDecision::ContactOnly);
    // Nobody else has the new one.
    assert_eq!(decisions[2].account().unwrap().phone, PhoneDecision::Login);
    assert_eq!([0, 1, 2].map(|number| census.exists_in_v2(number)), [false, false, true]);

    // Its email was changed in V1 too, to one that is nobody else's; what V2 holds until it is written nobody else gets.
    let mut town = town.to_vec();
    town[2].email = Some("new@b.org".to_owned());
    let decisions = decide(DEFAULT, &town, &v2);
    assert_eq!(decisions[2].account().unwrap().email, EmailDecision::Own);
    assert_eq!(decisions[0].email.as_deref(), Some("a+2@b.org"));
    // Two people claim it: V2's email stays, and so does its phone.
    town.push(resident(2, "s2", "new@b.org", "+2348031234568", "Other Person"));
    let decisions = decide(DEFAULT, &town, &v2);
    assert_eq!(decisions[2].account().unwrap().email, EmailDecision::Held);
    assert_eq!(decisions[2].account().unwrap().phone, PhoneDecision::Held);
    assert_eq!(decisions[2].kinds(), [(ConflictKind::EmailChanged, Settlement::KeptAsInV2)]);
}

#[test]
fn who_holds_the_email_in_v2_is_compared_first() {
    let before = [resident(2, "s1", "a@b.org", "", "Mary Smith")];
    let v2: Vec<_> = written(&before, &decide(DEFAULT, &before, &[]), &|_| false).into_values().collect();
    let town = [
        resident(0, "t1", "a@b.org", "", "Martha Smith"),
        resident(1, "p1", "a@b.org", "", "M. Smith"),
        before[0].clone(),
    ];
    let decisions = decide(DEFAULT, &town, &v2);
    assert_eq!(decisions[0].email.as_deref(), Some("a+2@b.org"));
    assert_eq!(decisions[1].account().unwrap().number, 2);
}

#[test]
fn phones_that_changed_after_the_account_was_made() {
    let (old, new) = ("+2348031234561", "+2348031234562");
    let before = [resident(1, "p1", "", old, "Jane Obi"), resident(2, "s1", "", "", "Tim Obi")];
    let policies = Policies { same_phone: Policy::Reject, ..DEFAULT };
    let made = decide(policies, &before, &[]);
    let v2: Vec<_> = written(&before, &made, &|_| false).into_values().collect();
    let town = [
        resident(0, "t1", "", old, "Mary Smith"),
        resident(1, "p1", "", new, "Jane Obi"),
        resident(2, "s1", "", new, "Tim Obi"),
        resident(2, "s2", "", new, "Tom Obi"),
    ];
    let id = made[1].account().unwrap().id;
    let ledger = HashMap::from([((2, "s1".to_owned()), id)]);
    let decisions = spell(&census_with(policies, &town, &v2, &ledger, u64::MAX), &town);
    let outcome = |at: usize| decisions[at].account().map(|account| account.phone);
    // V2 still has p1's old phone, so nobody else gets that; the new one is free for s1.
    assert_eq!(outcome(0), None);
    assert_eq!(
        [outcome(1), outcome(2), outcome(3)],
        [Some(PhoneDecision::Held), Some(PhoneDecision::Login), None]
    );

    // A phone that came later never rejects a row that the ledger has.
    let town = [resident(0, "t1", "", new, "Mary Smith"), resident(2, "s1", "", new, "Tim Obi")];
    let with = |ledger| spell(&census_with(policies, &town, &v2, ledger, u64::MAX), &town)[1].clone();
    assert_eq!(with(&ledger).account().unwrap().phone, PhoneDecision::ContactOnly);
    assert_eq!(with(&HashMap::new()).decision.outcome, Outcome::Rejected(RejectCode::SharedPhone));
}

#[test]
fn the_ledger_keeps_merged_rows_where_they_are() {
    let before = [resident(0, "t1", "a@b.org", "", "Jane Obi"), resident(1, "p2", "a@b.org", "", "Jane Obi")];
    let made = decide(DEFAULT, &before, &[]);
    let v2: Vec<_> = written(&before, &made, &|_| false).into_values().collect();
    let id = made[0].account().unwrap().id;
    let ledger = HashMap::from([((1, "p2".to_owned()), id)]);
    // A new row before p2 would take its place, and its email was changed.
    let mut town = before.to_vec();
    town.insert(1, resident(1, "p1", "a@b.org", "", "Jane Obi"));
    let decisions = spell(&census_with(DEFAULT, &town, &v2, &ledger, u64::MAX), &town);
    assert_eq!(decisions[2].account().unwrap().id, id);
    assert_eq!(decisions[1].email.as_deref(), Some("a+2@b.org"));
    // The founder is gone.
    let town = [resident(1, "p2", "other@b.org", "", "Jane Obi")];
    let census = census_with(DEFAULT, &town, &v2, &ledger, u64::MAX);
    let account = spell(&census, &town)[0].account().unwrap();
    assert_eq!((account.id, account.founder, account.number), (id, Founder::Gone, 1));
    assert!(census.exists_in_v2(1) && census.account_slots() == 2);
}

#[test]
fn equal_hashes_are_no_clash() {
    let town: Vec<_> = (0..200)
        .map(|n| resident(n / 100, &format!("k{n:03}"), &format!("n{n}@b.org"), "", "Jane Obi"))
        .collect();
    let decisions = spell(&census_with(DEFAULT, &town, &[], &HashMap::new(), 0xf), &town);
    assert!(decisions.iter().all(|spelled| {
        spelled.conflicts.is_empty() && spelled.account().unwrap().email == EmailDecision::Own
    }));
}

#[test]
fn cursor_follows_a_subset_and_rows_without_account() {
    let mut town: Vec<_> = (0..20).map(|n| resident(0, &format!("k{n:02}"), "", "", "Jane Obi")).collect();
    town[4].has_account = false;
    let census = std::sync::Arc::new(census(DEFAULT, &town, &[]));
    let mut cursor = Cursor::new(std::sync::Arc::clone(&census), 0);
    assert_eq!(cursor.next("k04").unwrap().outcome, Outcome::WithoutAccount);
    assert_eq!(cursor.next("unknown"), None);
    assert_eq!(cursor.next("k17").unwrap().row, 17);
    assert_eq!(cursor.next("k05"), None);
    assert_eq!(census.cursor(2).next("k05"), None);
    let summary = census.summary();
    assert_eq!((summary.accounts, summary.entities[0].without_account), (19, 1));
    assert_eq!(summary.entities[0].conflicts, [(ConflictKind::EmailMissing, 19)]);
}

#[test]
fn passes_must_read_the_same_rows() {
    let mut survey = Survey::new(rules(DEFAULT), people(), Existing::new("NG"));
    survey.push_raw(0, "t1", Some("a@b.org"), Some("0803 123 4567"));
    survey.push_raw(0, "t2", Some("a@b.org"), None);
    let mut look = survey.clashes();
    assert!(look.wanted(0).has("t1") && !look.is_empty() && !look.is_done_with(0) && look.is_done_with(1));
    look.push(0, "t1", Some("a@b.org"), "Jane Obi");
    assert!(look.decide().unwrap_err().message().starts_with("1 of 2 rows"));
}

#[test]
fn memory_stays_below_48_bytes_a_row() {
    const ROWS: usize = 200_000;
    let mut survey = Survey::new(rules(DEFAULT), people(), Existing::new("NG"));
    // One in ten has no email, and 3 % have the email of the row before.
    let email = |n: usize| {
        let n = if n % 33 == 1 { n - 1 } else { n };
        (n % 10 != 0).then(|| format!("person.{n}@school.example.org"))
    };
    let row = |n: usize| (n / (ROWS / 3 + 1), format!("clx{n:022}"));
    let mut most = 0;
    for n in 0..ROWS {
        let (entity, key) = row(n);
        let email = email(n);
        let phone = format!("+23480{:08}", n / 3);
        let email = email.as_deref().map_or(EmailClaim::Missing, EmailClaim::Address);
        let claims = Claims::new(email, PhoneClaim::Number(&phone));
        let contact = Contact { key: &key, claims, has_account: true, account: None, closed: false };
        survey.push(entity, &contact);
        if n % 1000 == 0 {
            most = most.max(survey.memory_bytes() / (n + 1000));
        }
    }
    let mut look = survey.clashes();
    let share = look.len() as f64 / ROWS as f64;
    assert!((0.02..0.08).contains(&share), "{share}");
    for n in 0..ROWS {
        let (entity, key) = row(n);
        look.push(entity, &key, email(n).as_deref(), "Jane Adaobi Obi");
    }
    let looking = look.memory_bytes() / ROWS;
    let census = look.decide().unwrap();
    let finished = census.memory_bytes() / ROWS;
    assert!(most <= 48 && looking <= 48 && finished <= 48, "{most} {looking} {finished}");
}
