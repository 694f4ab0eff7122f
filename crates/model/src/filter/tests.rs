//! The filter language, case by case.

use super::*;

struct Entry {
    name: &'static str,
    other: &'static str,
    labels: BTreeMap<String, String>,
}

impl Fields for Entry {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["name"] => text_field(self.name),
            ["other"] => text_field(self.other),
            ["labels", key @ ..] => map_field(key, &self.labels),
            _ => None,
        }
    }
}

fn entry(name: &'static str, other: &'static str, labels: &[(&str, &str)]) -> Entry {
    Entry {
        name,
        other,
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn entries() -> Vec<Entry> {
    vec![
        entry("one", "", &[("k", "true")]),
        entry("two", "a,b c", &[("io.x/y.z", "1")]),
        entry("three", "abc", &[("q\"\\", "v"), ("q\".post", "w")]),
        entry("", "Ünï", &[("k", "omg_a.b-c")]),
        entry("/tasks/exit", "", &[]),
    ]
}

#[test]
fn selects_as_upstream() {
    for (filter, expected) in [
        ("", &[0, 1, 2, 3, 4][..]),
        ("name", &[0, 1, 2, 4]),
        ("labels.k", &[0, 3]),
        ("labels.k,name", &[0]),
        ("labels.k==true", &[0]),
        ("labels.k==omg_a.b-c", &[3]),
        (" name == one", &[0]),
        ("name!=one", &[1, 2, 3, 4]),
        ("nothing!=x", &[0, 1, 2, 3, 4]),
        ("nothing==", &[]),
        ("other==\"a,b c\"", &[1]),
        ("labels.\"io.x/y.z\"==1", &[1]),
        ("labels.io.\"x/y\".z==1", &[1]),
        ("labels.\"q\\\"\\\\\"==v", &[2]),
        ("labels.\"q\\\"\".post", &[2]),
        ("other~=[abc]+", &[1, 2]),
        ("other~=/^[abc]{1,3}$/", &[2]),
        ("name~=|^/tasks/|", &[4]),
        ("name~=/^\\/tasks\\//", &[4]),
        ("other~=^$", &[0, 4]),
        ("other~=\"\\u00dcn\"", &[3]),
        ("other~=(?i)üNÏ", &[3]),
        ("other~=\\w\\w\\w", &[2]),
        // Does not compile: matches nothing and is no error.
        ("name~=(", &[]),
        ("name~=[[:alpha:]]o$", &[1]),
        ("name~=[[o]ne", &[0]),
    ] {
        let parsed = match Filters::parse(&[filter]) {
            Ok(parsed) => parsed,
            Err(error) => {
                assert_eq!(filter, "nothing==", "{error}");
                continue;
            }
        };
        let found: Vec<usize> = entries()
            .iter()
            .enumerate()
            .filter(|(_, entry)| parsed.matches(*entry))
            .map(|(index, _)| index)
            .collect();
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn items_are_alternatives() {
    let parsed = Filters::parse(&["name==one", "name==two,other"]).unwrap();
    let found = entries().iter().filter(|e| parsed.matches(*e)).count();
    assert_eq!(found, 2);
    assert!(Filters::parse::<String>(&[]).unwrap().is_all());
    assert!(Filters::parse(&["name==one", ""]).unwrap().is_all());
}

#[test]
fn errors_name_the_place_in_upstream_words() {
    for (filter, message) in [
        (
            "labels.|foo|==a",
            "[labels. >|||< foo|==a]: invalid quote encountered",
        ),
        ("name==foo,", "[name==foo,]: expected field or quoted"),
        ("labels.", "[labels.]: expected field or quoted"),
        (
            "labels.?\"a\"",
            "[labels. >|?|< \"a\"]: expected field or quoted",
        ),
        ("image~=,id", "[image~= >|,|< id]: expected value or quoted"),
        (
            "labels.ns/key==value",
            "[labels.ns >|/|< key==value]: quoted literal not terminated",
        ),
        (
            "labels.key==/value",
            "[labels.key== >|/|< value]: quoted literal not terminated",
        ),
        ("a===b", "[a >|=|< ==b]: unsupported operator \"===\""),
        (
            "a b",
            "[a  >|b|< ]: expected an operator (\"==\"|\"!=\"|\"~=\")",
        ),
        ("a==\"\\q\"", "[a== >|\"|< \\q\"]: illegal escape sequence"),
        (
            "a==\"\\xz\"",
            "[a== >|\"|< \\xz\"]: illegal numeric escape sequence",
        ),
        (
            "a==\"\\777\"",
            "[a== >|\"|< \\777\"]: unquoting failed: quote syntax error",
        ),
        ("a==b c", "[a==b >| |< c]: unexpected input:  "),
        ("a==/b/", "[a== >|/|< b/]: invalid quote encountered"),
    ] {
        let error = Filters::parse(&[filter]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("filters: parse error: {message}: invalid argument"),
            "{filter}"
        );
    }
}

#[test]
fn the_engine_subscribes() {
    struct Event(&'static str, &'static str);
    impl Fields for Event {
        fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
            match path {
                ["namespace"] => text_field(self.0),
                ["topic"] => text_field(self.1),
                _ => None,
            }
        }
    }
    let parsed = Filters::parse(&["namespace==moby,topic~=|^/tasks/|"]).unwrap();
    assert!(parsed.matches(&Event("moby", "/tasks/exit")));
    assert!(!parsed.matches(&Event("moby", "/containers/tasks/")));
    assert!(!parsed.matches(&Event("k8s.io", "/tasks/exit")));
    assert!(parsed.asks_for("topic") && !parsed.asks_for("event"));
}

#[test]
fn expressions_have_limits() {
    let parsed = Filters::parse(&["name~=(a{1000}){1000}"]).unwrap();
    assert!(!parsed.matches(&entry("a", "", &[])));
    assert!(Filters::parse(&["a".repeat(FILTER_BYTES_MAX + 1)]).is_err());
    assert!(Filters::parse(&vec!["a"; FILTERS_MAX + 1]).is_err());
    assert!(Filters::parse(&[format!("name~={}", "(".repeat(10_000))]).is_ok());
}
