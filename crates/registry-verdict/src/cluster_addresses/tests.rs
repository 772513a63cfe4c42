use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn config(url: &str) -> Config {
    Config::new(url.parse().unwrap())
}

#[test]
fn finds_api_server_address_but_not_loopback() {
    let told = |url, host| ClusterAddresses::told_by(&config(url), host).all().to_vec();
    assert_eq!(told("https://10.0.0.1:6443", Some("10.96.0.1")), nets(&["10.0.0.1/32", "10.96.0.1/32"]));
    assert_eq!(told("https://[fd00::1]:6443", None), nets(&["fd00::1/128"]));
    assert_eq!(told("https://127.0.0.1:6443", Some("kubernetes.default.svc")), nets(&[]));
}

#[expect(clippy::unnecessary_wraps, reason = "an answer, beside those that fail")]
fn known(texts: &[&str]) -> LearnedAddresses {
    Ok(Knowledge::Known(nets(texts)))
}

fn after(
    addresses: &ClusterAddresses,
    services: LearnedAddresses,
    servers: LearnedAddresses,
) -> Option<Arc<str>> {
    addresses.write(|known| {
        known.services.learn(services);
        known.servers.learn(servers);
    });
    addresses.gap()
}

#[test]
fn each_kind_is_a_gap_until_known_once() {
    let addresses = ClusterAddresses::told_by(&config("https://10.0.0.1:6443"), None);
    assert!(addresses.gap().is_some());
    let refused = || Err("refused".to_owned());
    assert_eq!(after(&addresses, refused(), known(&["10.0.0.2/32"])).as_deref(), Some("refused"));
    assert_eq!(
        addresses.all().to_vec(),
        nets(&["10.0.0.1/32", "10.0.0.2/32"]),
        "one is kept without the other"
    );
    assert_eq!(after(&addresses, known(&["10.96.0.0/16"]), refused()), None);
    assert_eq!(addresses.all().to_vec(), nets(&["10.0.0.1/32", "10.96.0.0/16", "10.0.0.2/32"]));
    assert_eq!(after(&addresses, refused(), refused()), None, "what was known stays");
    assert_eq!(addresses.all().len(), 3);
}

#[test]
fn configured_ranges_need_no_discovery() {
    let addresses = ClusterAddresses::told_by(&config("https://10.0.0.1:6443"), None)
        .with_service_ranges(&nets(&["10.96.0.0/12"]));
    assert_eq!(after(&addresses, Err("refused".to_owned()), known(&[])), None);
    assert_eq!(addresses.all().to_vec(), nets(&["10.0.0.1/32", "10.96.0.0/12"]));
    let gap =
        ClusterAddresses::told_by(&config("https://10.0.0.1:6443"), None).with_service_ranges(&[]).gap();
    assert!(gap.is_some());
}

#[test]
fn missing_range_api_leaves_the_gap() {
    let addresses = ClusterAddresses::told_by(&config("https://10.0.0.1:6443"), None);
    assert_eq!(after(&addresses, Ok(Knowledge::Unsaid), known(&[])), None);
}

#[tokio::test]
async fn notifies_waiters_when_last_gap_closes() {
    let addresses = ClusterAddresses::told_by(&config("https://10.0.0.1:6443"), None);
    let waiting = tokio::spawn({
        let addresses = addresses.clone();
        async move { addresses.completed().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    addresses.complete.send_replace(true);
    waiting.await.unwrap();
}
