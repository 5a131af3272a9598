//! What must hold for any town: above all that a run which was killed anywhere ends like one that was not.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use proptest::sample::select;

use super::town::*;
use super::*;
use crate::identity::email::{Email, normalise};
use crate::identity::name::compatible;
use crate::plan::Policy;

fn policy() -> impl Strategy<Value = Policy> {
    select(vec![Policy::Merge, Policy::Suffix, Policy::KeepFirst, Policy::Reject])
}

fn policies() -> impl Strategy<Value = Policies> {
    let any = (policy(), policy(), policy(), select(vec![Policy::KeepFirst, Policy::Reject])).prop_map(
        |(same_person, other_person, same_entity, same_phone)| Policies {
            same_person,
            other_person,
            same_entity,
            same_phone,
        },
    );
    prop_oneof![2 => Just(DEFAULT), 1 => any]
}

fn emails() -> impl Strategy<Value = Option<String>> {
    let long = "x".repeat(63);
    let pool = vec![
        "a@b.org".to_owned(),
        "A@b.org ".to_owned(),
        "a+2@b.org".to_owned(),
        "a+3@b.org".to_owned(),
        "ａ@b.org".to_owned(),
        "c@d.org".to_owned(),
        "c+2@d.org".to_owned(),
        format!("{long}y@b.org"),
        format!("{long}z@b.org"),
        "staff.k01@placeholder.invalid".to_owned(),
        "parents.k02@placeholder.invalid".to_owned(),
        "parents.k02+2@placeholder.invalid".to_owned(),
        "pupils.k03@placeholder.invalid".to_owned(),
        "nonsense".to_owned(),
    ];
    prop_oneof![5 => select(pool).prop_map(Some), 1 => Just(None)]
}

fn phones() -> impl Strategy<Value = Option<String>> {
    let pool = ["+2348031234561", "+2348031234562", "+2348031234563", "+2348031234564", "unknown"];
    prop_oneof![3 => select(pool.map(str::to_owned).to_vec()).prop_map(Some), 1 => Just(None)]
}

/// Rows in (entity order, key order).
fn towns() -> impl Strategy<Value = Vec<Resident>> {
    let names = ["Jane Obi", "J. Obi", "Mary Smith", "John Obi", "Mary Jane Smith", ""];
    let row = (0..3usize, 0..12u8, emails(), phones(), select(names.to_vec()), prop::bool::weighted(0.95));
    prop::collection::vec(row, 1..36).prop_map(|rows| {
        let rows: BTreeMap<_, _> = rows.into_iter().map(|row| ((row.0, row.1), row)).collect();
        let resident = |(entity, key, email, phone, name, has_account)| {
            let (key, name) = (format!("k{key:02}"), str::to_owned(name));
            Resident { entity, key, email, phone, name, has_account }
        };
        rows.into_values().map(resident).collect()
    })
}

/// Accounts of V2 that are not ours; no two hold the same.
fn strangers() -> impl Strategy<Value = Vec<Held>> {
    let username = select(vec!["", "a+4@b.org", "c+3@d.org", "pupils.k03", "staff.k05", "c@d.org"]);
    prop::collection::vec((emails(), phones(), username), 0..3).prop_map(|accounts| {
        let mut seen = HashSet::new();
        let mut kept = Vec::new();
        for (email, phone, username) in accounts {
            let held = foreign(&email.unwrap_or_default(), &phone.unwrap_or_default(), username);
            let mut values: Vec<_> = [&held.phone, &held.username].into_iter().flatten().cloned().collect();
            values.extend(held.email.as_deref().map(spelling));
            if values.into_iter().collect::<HashSet<_>>().into_iter().all(|value| seen.insert(value)) {
                kept.push(held);
            }
        }
        kept
    })
}

fn spelling(email: &str) -> String {
    match normalise(email) {
        Email::Usable { address, .. } => address,
        _ => email.to_owned(),
    }
}

/// No email, login phone or user name twice among accounts of V2 and accounts that will be created.
fn all_unique(accounts: &[Held]) -> Result<(), TestCaseError> {
    let mut logins: HashMap<String, &str> = HashMap::new();
    let mut phones = HashSet::new();
    for account in accounts {
        let email = account.email.as_deref().map(spelling);
        let username = account.username.as_deref().map(spelling);
        for login in [email, username].into_iter().flatten() {
            let other = logins.insert(login.clone(), &account.id);
            prop_assert!(other.is_none_or(|other| other == account.id), "{login} twice");
        }
        if let Some(phone) = &account.phone {
            prop_assert!(phones.insert(phone), "{phone} twice");
        }
    }
    Ok(())
}

/// What the ledger says after these decisions, for rows for which `knows` holds.
fn ledger(
    town: &[Resident],
    decisions: &[Spelled],
    accounts: &HashSet<String>,
    knows: &dyn Fn(usize) -> bool,
) -> HashMap<(usize, String), Uuid> {
    let line = |(at, (row, spelled)): (usize, (&Resident, &Spelled))| {
        let account =
            spelled.account().filter(|account| knows(at) && accounts.contains(&account.id.to_string()))?;
        Some(((row.entity, row.key.clone()), account.id))
    };
    town.iter().zip(decisions).enumerate().filter_map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The promise of the design: any moment is a safe moment to die.
    #[test]
    fn a_killed_run_ends_like_an_undisturbed_one(
        town in towns(), strangers in strangers(), policies in policies(),
        done in prop::collection::vec(any::<bool>(), 40), known in prop::collection::vec(any::<bool>(), 40),
        lost in prop::collection::vec(prop::bool::weighted(0.1), 40), email_column in prop::bool::weighted(0.9),
    ) {
        let undisturbed = decide(policies, &town, &strangers);
        let accounts = written(&town, &undisturbed, &|at| lost[at]);
        let mut v2 = strangers.clone();
        v2.extend(accounts.into_values().zip(&done).filter(|(_, done)| **done).map(|(account, _)| account));
        if !email_column {
            v2.iter_mut().for_each(|account| account.email = None);
        }
        let undisturbed = if email_column { undisturbed } else {
            decide(policies, &town, &v2.iter().filter(|account| !account.ours).cloned().collect::<Vec<_>>())
        };
        if !email_column {
            // Without that column the strangers claim less, so V2 holds what this undisturbed run makes.
            let accounts = written(&town, &undisturbed, &|at| lost[at]);
            v2.retain(|account| !account.ours);
            v2.extend(accounts.into_values().zip(&done).filter(|(_, done)| **done).map(|(account, _)| {
                Held { email: None, ..account }
            }));
        }
        let ids = v2.iter().map(|account| account.id.clone()).collect();
        let ledger = ledger(&town, &undisturbed, &ids, &|at| known[at] && !lost[at]);
        let resumed = spell(&census_with(policies, &town, &v2, &ledger, u64::MAX), &town);
        for (resumed, undisturbed) in resumed.iter().zip(&undisturbed) {
            prop_assert_eq!(resumed, undisturbed);
        }
    }

    #[test]
    fn nothing_is_given_to_two_accounts(
        town in towns(), strangers in strangers(), policies in policies(),
        lost in prop::collection::vec(prop::bool::weighted(0.1), 40),
    ) {
        let census = census(policies, &town, &strangers);
        let decisions = spell(&census, &town);
        prop_assert_eq!(&decisions, &decide(policies, &town, &strangers));
        let accounts = written(&town, &decisions, &|_| false);
        prop_assert_eq!(census.summary().accounts, accounts.len() as u64);
        for lost in [&|at: usize| lost[at], &|_: usize| false] as [&dyn Fn(usize) -> bool; 2] {
            let mut all = strangers.clone();
            all.extend(written(&town, &decisions, lost).into_values());
            prop_assert!(all.iter().all(|account| !account.ours || account.email.is_some()));
            all_unique(&all)?;
        }
        let rows: Vec<_> = decisions.iter().map(|spelled| spelled.decision.row).collect();
        prop_assert_eq!(rows, (0..town.len() as u32).collect::<Vec<_>>());
        for (row, spelled) in town.iter().zip(&decisions) {
            let without = spelled.decision.outcome == Outcome::WithoutAccount;
            prop_assert_eq!(without, !row.has_account);
        }
    }

    #[test]
    fn merges_only_on_email_and_name(town in towns(), strangers in strangers()) {
        let decisions = decide(DEFAULT, &town, &strangers);
        let mut members: HashMap<Uuid, HashSet<usize>> = HashMap::new();
        for (row, spelled) in town.iter().zip(&decisions) {
            prop_assert!(spelled.account().is_some() || !row.has_account);
            let Some(account) = spelled.account() else { continue };
            prop_assert!(members.entry(account.id).or_default().insert(row.entity), "two of one entity");
            match account.founder {
                Founder::ThisRow => prop_assert_eq!(account.id, account_id(&people()[row.entity].ids, &row.key)),
                Founder::Row { entity, row: founder } => {
                    let founder = &town[founder as usize];
                    prop_assert_eq!(entity, founder.entity);
                    prop_assert_ne!(entity, row.entity);
                    let spelled = |row: &Resident| row.email.as_deref().map(spelling);
                    prop_assert_eq!(spelled(founder), spelled(row));
                    prop_assert!(compatible(&founder.name, &row.name));
                }
                Founder::Gone => prop_assert!(false, "no founder"),
            }
        }
    }

    /// V1 goes on living between runs: what V2 gave away stays as long as V1's row does, and nobody else gets it. A row that has
    /// changed may get what V1 says now, if that is nobody else's.
    #[test]
    fn what_v2_gave_away_stays(
        town in towns(), later in towns(), strangers in strangers(), policies in policies(), full in any::<bool>(),
    ) {
        let first = decide(policies, &town, &strangers);
        let made = written(&town, &first, &|_| false);
        let mut v2 = strangers.clone();
        v2.extend(made.values().cloned());
        let ids = made.values().map(|account| account.id.clone()).collect();
        let ledger = ledger(&town, &first, &ids, &|_| full);
        // Old rows stay as they are, with new ones among them; or they have changed and some are gone.
        let mut rows: BTreeMap<_, _> =
            later.into_iter().map(|row| ((row.entity, row.key.clone()), row)).collect();
        if full {
            rows.extend(town.iter().map(|row| ((row.entity, row.key.clone()), row.clone())));
        }
        let rows: Vec<_> = rows.into_values().collect();
        let second = spell(&census_with(policies, &rows, &v2, &ledger, u64::MAX), &rows);
        let keeps_phone = |id: &Uuid| {
            let of_id = second.iter().filter_map(Spelled::account).find(|account| account.id == *id);
            of_id.is_some_and(|account| account.phone == PhoneDecision::Held)
        };
        let (mut new, mut updated) = (Vec::new(), made.clone());
        for (id, account) in written(&rows, &second, &|_| false) {
            match made.get(&id) {
                None => new.push(account),
                Some(held) if full => prop_assert_eq!(held.email.as_ref(), account.email.as_ref()),
                Some(held) => {
                    let (email, username) = match account.email {
                        Some(_) => (account.email, account.username),
                        None => (held.email.clone(), held.username.clone()),
                    };
                    let phone = if keeps_phone(&id) { held.phone.clone() } else { account.phone };
                    // Nor is anything of it in V2 now, so that it does not matter which of the rows are written.
                    let others = v2.iter().filter(|other| other.id != held.id);
                    for other in others {
                        prop_assert!(phone.is_none() || phone != other.phone);
                        prop_assert!(email.is_none() || email != other.email);
                    }
                    updated.insert(id, Held { email, username, phone, ..held.clone() });
                }
            }
        }
        all_unique(&[v2.clone(), new.clone()].concat())?;
        all_unique(&[strangers.clone(), updated.into_values().collect(), new].concat())?;
        if full {
            let account = |spelled: &Spelled| spelled.account().map(|account| account.id);
            let place = |row: &Resident| (row.entity, row.key.clone());
            let second: HashMap<_, _> = rows.iter().map(place).zip(second.iter().map(account)).collect();
            for (row, spelled) in town.iter().zip(&first).filter(|(_, spelled)| spelled.account().is_some()) {
                prop_assert_eq!(account(spelled), second[&place(row)]);
            }
        }
    }

    /// A later run asks only about rows that are new or have changed, and looks closely at no others: what it hears
    /// must be what a run hears that asks about everybody.
    #[test]
    fn who_asks_about_some_rows_hears_what_everybody_hears(
        town in towns(), later in towns(), strangers in strangers(), policies in policies(),
        changed in prop::collection::vec(prop::bool::weighted(0.3), 36),
        done in prop::collection::vec(prop::bool::weighted(0.9), 40),
        lost in prop::collection::vec(prop::bool::weighted(0.1), 40),
    ) {
        let first = decide(policies, &town, &strangers);
        let mut v2 = strangers.clone();
        let made = written(&town, &first, &|at| lost[at] || !done[at]);
        v2.extend(made.values().cloned());
        let ids = made.values().map(|account| account.id.clone()).collect();
        let ledger = ledger(&town, &first, &ids, &|at| done[at] && !lost[at]);
        let place = |row: &Resident| (row.entity, row.key.clone());
        let mut rows: BTreeMap<_, _> = town.iter().map(|row| (place(row), row.clone())).collect();
        let later = later.into_iter().zip(&changed).filter(|(_, changed)| **changed).map(|(row, _)| row);
        rows.extend(later.map(|row| (place(&row), row)));
        let rows: Vec<_> = rows.into_values().collect();
        let closed = |row: &Resident| ledger.contains_key(&place(row)) && town.contains(row);
        let all = census_with(policies, &rows, &v2, &ledger, u64::MAX);
        let some = census_of_the_open(policies, &rows, &v2, &ledger, u64::MAX, &closed);
        for ((row, of_all), of_some) in rows.iter().zip(spell(&all, &rows)).zip(spell(&some, &rows)) {
            if !closed(row) {
                let number = of_all.decision.row;
                prop_assert_eq!(of_all, of_some);
                prop_assert_eq!(all.conflicts(number).collect::<Vec<_>>(), some.conflicts(number).collect::<Vec<_>>());
            }
        }
    }
}
