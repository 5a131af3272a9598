//! The list is read back from disk as its recipient would, with the secret key and a CSV reader.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::error::Kind;
use crate::password::{DEFAULT_LENGTH, SecretKey, derive};
use crate::settings::HashCost;

fn person(scope: &str, name: &str) -> Credential {
    Credential {
        scope: scope.to_owned(),
        entity: "people".to_owned(),
        name: name.to_owned(),
        login: "+4915112345678".to_owned(),
        email: "ada@example.org".to_owned(),
        password: derive(&SecretKey::from_bytes([1; 32]), name, DEFAULT_LENGTH),
    }
}

fn to_age(identity: &age::x25519::Identity, armor: bool) -> Protection {
    Protection::Age { recipients: Recipients::parse(&[identity.to_public().to_string()]).unwrap(), armor }
}

fn decrypt(path: &Path, identity: &age::x25519::Identity) -> String {
    let reader = age::armor::ArmoredReader::new(File::open(path).unwrap());
    let mut text = String::new();
    age::Decryptor::new_buffered(std::io::BufReader::new(reader))
        .unwrap()
        .decrypt(std::iter::once(identity as &dyn age::Identity))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

fn cells(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_encrypted_list_comes_back_and_holds_no_plaintext() {
    for armor in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv.age");
        let identity = age::x25519::Identity::generate();
        // More than several of age's 64 KiB blocks.
        let people: Vec<_> =
            (0..3000).map(|number| person("Élan", &format!("Person \"{number}\", x"))).collect();
        let output = ExportOutput { place: Place::File(path.clone()), protection: to_age(&identity, armor) };
        assert_eq!(write(people.iter().cloned().map(Ok), output).unwrap(), 3000);
        assert_eq!(mode(&path), 0o600);
        let raw = fs::read(&path).unwrap();
        assert_eq!(raw.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----"), armor);
        let first = people[0].password.as_bytes();
        assert!(!raw.windows(first.len()).any(|window| window == first));
        let rows = cells(&decrypt(&path, &identity));
        assert_eq!(rows[0], HEADER);
        assert_eq!(rows.len(), 3001);
        for (row, person) in rows[1..].iter().zip(&people) {
            assert_eq!(row[2], person.name);
            assert_eq!(row[3], "'+4915112345678");
            assert_eq!(row[5], *person.password, "a password must come out unaltered");
        }
    }
}

#[test]
fn each_of_several_recipients_can_read_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list");
    let (one, two, other) = (
        age::x25519::Identity::generate(),
        age::x25519::Identity::generate(),
        age::x25519::Identity::generate(),
    );
    let recipients = Recipients::parse(&[
        one.to_public().to_string(),
        two.to_public().to_string(),
        one.to_public().to_string(),
    ])
    .unwrap();
    assert_eq!(format!("{recipients:?}"), "Recipients(2)");
    let protection = Protection::Age { recipients, armor: false };
    write([Ok(person("a", "b"))].into_iter(), ExportOutput { place: Place::File(path.clone()), protection })
        .unwrap();
    assert_eq!(decrypt(&path, &one), decrypt(&path, &two));
    let decryptor =
        age::Decryptor::new_buffered(std::io::BufReader::new(File::open(&path).unwrap())).unwrap();
    assert!(decryptor.decrypt(std::iter::once(&other as &dyn age::Identity)).is_err());
}

#[test]
fn an_existing_file_or_link_is_refused_and_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    fs::write(&path, "precious").unwrap();
    let link = folder.path().join("link.csv");
    symlink(folder.path().join("elsewhere"), &link).unwrap();
    for place in [&path, &link, &folder.path().join("missing/list.csv")] {
        let output = ExportOutput { place: Place::File(place.clone()), protection: Protection::Plain };
        let error = write([Ok(person("a", "b"))].into_iter(), output).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.fix().is_some());
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert!(!folder.path().join("elsewhere").exists());
}

#[test]
fn a_list_that_fails_half_way_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let rows = || {
        vec![
            Ok(person("a", "1")),
            Ok(person("b", "2")),
            Err(Error::failed("V2 went away")),
            Ok(person("c", "3")),
        ]
        .into_iter()
    };
    for place in
        [Place::File(folder.path().join("list.csv")), Place::FolderPerScope(folder.path().to_owned())]
    {
        let error = write(rows(), ExportOutput { place, protection: Protection::Plain }).unwrap_err();
        assert_eq!(error.message(), "V2 went away");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn one_file_per_scope_with_safe_names() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("lists");
    let identity = age::x25519::Identity::generate();
    let scopes = ["", "../../etc/passwd", "A/B", "A:B", "a b", "St. Mary's", "Žižkov 第一"];
    let rows = scopes.iter().flat_map(|scope| [Ok(person(scope, "1")), Ok(person(scope, "2"))]);
    let output =
        ExportOutput { place: Place::FolderPerScope(inside.clone()), protection: to_age(&identity, true) };
    assert_eq!(write(rows, output).unwrap(), 14);
    assert_eq!(mode(&inside), 0o700);
    let expected = ["unnamed", "etc-passwd", "A-B", "A-B-2", "a-b-3", "St-Mary-s", "Žižkov-第一"];
    assert_eq!(fs::read_dir(&inside).unwrap().count(), expected.len());
    for (name, scope) in expected.iter().zip(scopes) {
        let path = inside.join(format!("{name}.csv.age"));
        assert_eq!(mode(&path), 0o600);
        let rows = cells(&decrypt(&path, &identity));
        assert_eq!(rows.len(), 3, "{name}");
        assert_eq!(rows[1][0], scope);
    }
}

#[test]
fn scattered_scopes_are_an_error_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let rows = ["a", "b", "a"].into_iter().map(|scope| Ok(person(scope, "1")));
    let output = ExportOutput {
        place: Place::FolderPerScope(folder.path().to_owned()),
        protection: Protection::Plain,
    };
    assert!(write(rows, output).unwrap_err().message().contains("not together"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_empty_list_still_has_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    let output = ExportOutput { place: Place::File(path.clone()), protection: Protection::Plain };
    assert_eq!(write(std::iter::empty(), output).unwrap(), 0);
    assert_eq!(fs::read_to_string(path).unwrap(), "scope,entity,name,login,email,password\n");
}

#[test]
fn wrong_recipients_are_named_without_being_repeated() {
    use secrecy::ExposeSecret;
    let identity = age::x25519::Identity::generate();
    let good = identity.to_public().to_string();
    let secret = identity.to_string().expose_secret().to_owned();
    let cases: [(&[&str], &str); 7] = [
        (&[], "no recipient"),
        (&[&secret], "recipient 1 is a secret key"),
        (&[&good, &secret.to_lowercase()], "recipient 2 is a secret key"),
        (&["ssh-ed25519 AAAAC3Nza"], "SSH key"),
        (&[&good[..30]], "damaged"),
        (&["ada@example.org"], "not an age public key"),
        (&["ääääääää"], "not an age public key"),
    ];
    for (texts, expected) in cases {
        let error = Recipients::parse(texts).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.message().contains(expected), "{error}");
        for text in texts {
            assert!(!error.to_string().contains(*text));
        }
    }
    Recipients::parse(&[format!(" {good}\n")]).unwrap();
}

#[test]
fn formulas_are_disarmed_and_dangerous_passwords_refused() {
    for text in ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx"] {
        assert_eq!(cell(text), format!("'{text}"));
    }
    for text in ["", "1=1", "a-b", "'=x", "Ada"] {
        assert_eq!(cell(text), text);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut row = person("a", "b");
    row.password = Zeroizing::new("=Canary1".to_owned());
    let place = Place::File(folder.path().join("list.csv"));
    let error =
        write([Ok(row)].into_iter(), ExportOutput { place, protection: Protection::Plain }).unwrap_err();
    assert!(!error.to_string().contains("Canary1"));
}

#[test]
fn debug_hides_people() {
    assert_eq!(format!("{:?}", person("a", "b")), "Credential(hidden)");
}

#[test]
fn logins_are_checked() {
    let cost = HashCost { memory_kib: 8, iterations: 1, parallelism: 1 };
    let mut hasher = password::Implementation::choose(cost).unwrap().hasher(cost).unwrap();
    let stored = password::hash(hasher.as_mut(), cost, b"right").unwrap().phc();
    assert!(check_login(Some(&stored), false, "right").accepted());
    assert_eq!(check_login(Some(&stored), false, "wrong"), LoginCheck::WrongPassword);
    assert_eq!(check_login(Some(&stored), true, "right"), LoginCheck::Locked);
    assert_eq!(check_login(None, true, "right"), LoginCheck::Locked);
    assert_eq!(check_login(None, false, ""), LoginCheck::NoPassword);
    assert_eq!(check_login(Some(""), false, ""), LoginCheck::NoPassword);
    assert_eq!(check_login(Some("right"), false, "right"), LoginCheck::UnreadableHash);
}

proptest! {
    #[test]
    fn file_names_are_safe_and_distinct(scopes in proptest::collection::hash_set(".{0,200}", 0..20)) {
        let mut names = FileNames::default();
        let mut seen = HashSet::new();
        for scope in &scopes {
            let name = names.next(scope).unwrap();
            prop_assert!(!name.is_empty() && name.len() < 120);
            prop_assert!(name.chars().all(|character| character.is_alphanumeric() || character == '-'));
            prop_assert!(!name.starts_with('-'));
            prop_assert!(seen.insert(name.to_lowercase()));
        }
    }

    #[test]
    fn any_text_survives_the_csv(name in "\\PC{0,30}|[,\"\r\n;a]{0,10}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        let output = ExportOutput { place: Place::File(path.clone()), protection: Protection::Plain };
        write([Ok(person("a", &name))].into_iter(), output).unwrap();
        let rows = cells(&fs::read_to_string(&path).unwrap());
        prop_assert_eq!(&rows[1][2], &cell(&name));
    }
}
