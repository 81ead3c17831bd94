use super::*;

fn grants(entries: &[&str]) -> HttpGrants {
    HttpGrants::try_from(entries.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()).unwrap()
}

/// Returns the result of the checks before name resolution: "" if the URL is granted.
fn check_url(grants: &HttpGrants, url: &str) -> &'static str {
    let Ok(url) = Url::parse(url) else { return "no URL" };
    let Ok(target) = Target::from_url(&url) else { return "no target" };
    grants.check_target(&target).map_or_else(|error| error.label(), |()| "")
}

fn target(url: &str) -> Target {
    Target::from_url(&Url::parse(url).unwrap()).unwrap()
}

#[test]
fn url_is_checked_against_grants() {
    let grants = grants(&[
        "crm.example.com",
        "API.Example.com.:8443",
        "*.wild.example",
        "münchen.example:80",
        "127.0.0.1:8080",
        "[::1]:8080",
        "10.0.0.0/8",
        "fd00::/8",
        "[fd12::]/16:9000",
        "192.168.1.0/24:81",
        "8.8.8.8:53",
    ]);
    for (url, expected) in [
        ("http://crm.example.com/a?b", ""),
        ("https://crm.example.com/", ""),
        ("HTTP://CRM.EXAMPLE.COM/", ""),
        ("http://crm.example.com./", ""),
        ("http://crm.example.com:80/", ""),
        ("https:\\\\crm.example.com\\a", ""),
        ("http://crm.exa\tmple.com/", ""),
        ("http://crm%2eexample.com/", ""),
        ("http://ｃｒｍ.example.com/", ""),
        ("http://crm.example.com../", "not_granted"),
        ("http://crm.example.com:443/", "not_granted"),
        ("https://crm.example.com:80/", "not_granted"),
        ("http://crm.example.com:8080/", "not_granted"),
        ("http://crm.example.com.evil.example/", "not_granted"),
        ("http://evilcrm.example.com/", "not_granted"),
        ("http://a.crm.example.com/", "not_granted"),
        ("http://example.com/", "not_granted"),
        ("http://crm.example.com@evil.example/", "no target"),
        ("http://crm.example.com:80@evil.example/", "no target"),
        ("http://a:b@crm.example.com/", "no target"),
        ("http://evil.example\\@crm.example.com/", "not_granted"),
        ("http://evil.example#@crm.example.com/", "not_granted"),
        ("http://evil.example/@crm.example.com/", "not_granted"),
        ("http:crm.example.com/", ""),
        ("ftp://crm.example.com/", "no target"),
        ("file:///etc/passwd", "no target"),
        ("//crm.example.com/", "no URL"),
        ("http://", "no URL"),
        ("https://api.example.com:8443/", ""),
        ("http://api.example.com:8443/", ""),
        ("https://api.example.com/", "not_granted"),
        ("http://a.wild.example/", ""),
        ("http://a.b.wild.example/", ""),
        ("http://wild.example/", "not_granted"),
        ("http://.wild.example/", "not_granted"),
        ("http://notwild.example/", "not_granted"),
        ("http://münchen.example/", ""),
        ("http://MÜNCHEN.example/", ""),
        ("http://xn--mnchen-3ya.example/", ""),
        ("https://münchen.example/", "not_granted"),
        ("http://munchen.example/", "not_granted"),
        // Addresses in all notations of the URL standard.
        ("http://127.0.0.1:8080/", ""),
        ("http://2130706433:8080/", ""),
        ("http://0177.0.0.1:8080/", ""),
        ("http://0x7f.1:8080/", ""),
        ("http://127.1:8080/", ""),
        ("http://127.0.0.1.:8080/", ""),
        ("http://[::1]:8080/", ""),
        ("http://[0:0:0:0:0:0:0:1]:8080/", ""),
        ("http://[::ffff:127.0.0.1]:8080/", ""),
        ("http://127.0.0.1/", "not_granted"),
        ("http://2130706433/", "not_granted"),
        ("http://0177.0.0.1/", "not_granted"),
        ("http://0x7f.1/", "not_granted"),
        ("http://127.1/", "not_granted"),
        ("http://0/", "not_granted"),
        ("http://[::ffff:127.0.0.1]/", "not_granted"),
        ("http://[::ffff:a9fe:a9fe]/", "not_granted"),
        ("http://[64:ff9b::7f00:1]/", "not_granted"),
        ("http://localhost:8080/", "not_granted"),
        ("http://169.254.169.254/", "not_granted"),
        ("http://[fe80::1]/", "not_granted"),
        ("http://[::1%25eth0]:8080/", "no URL"),
        ("http://10.200.0.1/", ""),
        ("https://10.200.0.1/", ""),
        ("http://[::ffff:10.1.2.3]/", ""),
        ("http://[64:ff9b::10.1.2.3]/", ""),
        ("http://10.200.0.1:8080/", "not_granted"),
        ("http://11.0.0.1/", "not_granted"),
        ("https://[fd00:ec2::254]/", ""),
        ("http://[fd12::1]:9000/", ""),
        ("http://[fd13::1]:9000/", "not_granted"),
        ("http://192.168.1.7:81/", ""),
        ("http://192.168.2.7:81/", "not_granted"),
        ("http://8.8.8.8:53/", ""),
        ("http://8.8.8.8/", "not_granted"),
        ("http://1.1.1.1/", "not_granted"),
    ] {
        assert_eq!(check_url(&grants, url), expected, "{url}");
    }
}

#[test]
fn empty_grants_allow_no_host() {
    let grants = HttpGrants::default();
    assert!(grants.is_empty());
    assert_eq!(check_url(&grants, "https://crm.example.com/"), "not_granted");
}

#[test]
fn all_addresses_grant_covers_one_ip_family() {
    let (all_v4, all_v6) = (grants(&["0.0.0.0/0"]), grants(&["::/0"]));
    assert_eq!(check_url(&all_v4, "http://127.0.0.1/"), "");
    assert_eq!(check_url(&all_v4, "http://[::ffff:127.0.0.1]/"), "");
    assert_eq!(check_url(&all_v4, "http://[::1]/"), "not_granted");
    assert_eq!(check_url(&all_v6, "http://[::1]/"), "");
    assert_eq!(check_url(&all_v6, "http://[2002:7f00:1::]/"), "");
    assert_eq!(check_url(&all_v6, "http://127.0.0.1/"), "not_granted");
    assert_eq!(check_url(&all_v6, "http://[::ffff:127.0.0.1]/"), "not_granted");
}

#[test]
fn ipv4_mapped_grant_covers_ipv4() {
    let grants = grants(&["[::ffff:10.0.0.0]/104", "[64:ff9b::127.0.0.1]"]);
    assert_eq!(check_url(&grants, "http://10.1.2.3/"), "");
    assert_eq!(check_url(&grants, "http://11.1.2.3/"), "not_granted");
    assert_eq!(check_url(&grants, "http://127.0.0.1/"), "");
    assert_eq!(check_url(&grants, "http://127.0.0.2/"), "not_granted");
}

#[test]
fn resolved_addresses_are_checked_against_grants() {
    let grants = grants(&["*.example.com:8080", "*.example.com", "10.0.0.0/8:8080", "2002::/16"]);
    let (plain, other) = (target("http://a.example.com/"), target("http://a.example.com:8080/"));
    for (target, address, granted) in [
        (&plain, "8.8.8.8", true),
        (&plain, "2606:4700::1111", true),
        (&plain, "::ffff:8.8.8.8", true),
        (&plain, "10.0.0.1", false),
        (&plain, "127.0.0.1", false),
        (&plain, "::1", false),
        (&plain, "::ffff:10.0.0.1", false),
        (&plain, "169.254.169.254", false),
        (&plain, "fd00:ec2::254", false),
        (&plain, "2002:a00:1::", true),
        (&plain, "2001::1", false),
        (&other, "8.8.8.8", true),
        (&other, "10.0.0.1", true),
        (&other, "::ffff:10.0.0.1", true),
        (&other, "64:ff9b::10.0.0.1", true),
        (&other, "127.0.0.1", false),
        (&other, "192.168.0.1", false),
        (&other, "2002:a00:1::", false),
    ] {
        let result = grants.check_address(target, address.parse().unwrap());
        assert_eq!(result.is_ok(), granted, "{target} at {address}: {result:?}");
    }
    assert_eq!(
        grants.check_address(&plain, "::ffff:10.0.0.1".parse().unwrap()).unwrap_err().to_string(),
        "address refused: a.example.com:80 resolves to 10.0.0.1 (private), which no entry of \
         `grants.http` includes; to allow it, add \"10.0.0.1:80\""
    );
}

#[test]
fn rejection_names_the_missing_entry_without_path() {
    let grants = HttpGrants::default();
    for (url, expected) in [
        ("https://crm.example.com/4930123?q=4930123", "crm.example.com:443"),
        ("http://[::1]:81/4930123", "[::1]:81"),
    ] {
        let error = grants.check_target(&target(url)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("add \"{expected}\"")), "{error}");
        assert!(!error.contains("4930123"), "{error}");
        // The suggested entry is valid, and grants the URL.
        let suggested = HttpGrants::try_from(vec![expected.to_owned()]).unwrap();
        assert_eq!(suggested.check_target(&target(url)), Ok(()));
    }
}

#[test]
fn invalid_entries_explain_the_format() {
    for (entry, part) in [
        ("", "not a valid name"),
        ("*", "`*`"),
        ("*:443", "`*`"),
        ("*.", "not a valid name"),
        ("*.*.example.com", "`*`"),
        ("a.*.com", "`*`"),
        ("a*.example.com", "`*`"),
        ("*.10.0.0.1", "encoded IPv4 address"),
        ("https://crm.example.com", "write \"crm.example.com:443\""),
        ("http://crm.example.com/a", "write \"crm.example.com:80\""),
        ("https://crm.example.com:8443/", "write \"crm.example.com:8443\""),
        ("crm.example.com/", "path"),
        ("crm.example.com/8", "path"),
        ("crm.example.com:443/a", "1 to 65535"),
        ("a@crm.example.com", "more than a host"),
        ("crm.example.com?a", "more than a host"),
        ("crm.example.com\\a", "more than a host"),
        (" crm.example.com", "more than a host"),
        ("crm%2eexample.com", "more than a host"),
        ("crm..example.com", "not a valid name"),
        ("crm.example.com..", "not a valid name"),
        (":443", "not a valid name"),
        ("crm.example.com:", "1 to 65535"),
        ("crm.example.com:0", "1 to 65535"),
        ("crm.example.com:65536", "1 to 65535"),
        ("crm.example.com:+80", "1 to 65535"),
        ("crm.example.com:https", "1 to 65535"),
        ("2130706433", "write \"127.0.0.1\""),
        ("0x7f.1:80", "write \"127.0.0.1\""),
        ("010.0.0.0/8", "path"),
        ("10.0.0.0/33", "prefix length is too large"),
        ("10.0.0.0/300", "prefix length is too large"),
        ("10.1.2.3/8", "write \"10.0.0.0/8\", or \"10.1.2.3\""),
        ("[10.0.0.1]:80", "IPv6"),
        ("[::1", "bracket"),
        ("[::1]80", "more than a host"),
        ("::1", "brackets"),
        ("::1:8080", "brackets"),
        ("fd00::/8:8080", "brackets"),
        ("fd00::1/8", "write \"fd00::/8\""),
        ("fe80::1%eth0", "more than a host"),
    ] {
        let error = HttpGrants::try_from(vec!["ok.example".to_owned(), entry.to_owned()])
            .expect_err(entry)
            .to_string();
        assert!(error.contains(part), "{entry}: {error}");
        assert!(error.contains(&format!("{entry:?}")), "{error}");
    }
}

#[test]
fn grants_deserialize_from_a_list() {
    let grants: HttpGrants = serde_json::from_str(r#"["crm.example.com:443"]"#).unwrap();
    assert_eq!(check_url(&grants, "https://crm.example.com/"), "");
    let error = serde_json::from_str::<HttpGrants>(r#"["*"]"#).unwrap_err().to_string();
    assert!(error.starts_with("\"*\" is not a valid grant: "), "{error}");
}
