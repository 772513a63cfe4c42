//! Hostile servers: the deadline holds, memory is bounded, and other registries' validations are not delayed.
//!
//! Memory and delays are measured in a process of their own, in which nothing runs but the prober: this test program starts
//! itself once more and has the servers.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _};
use registry_probe::{CredentialsFinding, Prober, ProberSettings, RepositoryName, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::listener::{ConnectionMode, Log, RecordingListener};
use crate::say;
use crate::support::{Answer, PASSWORD, ReceivedRequest, Server, alice, basic_alice, now, target};

/// What a hostile server has for each validation.
const DEADLINE: Duration = Duration::from_millis(500);
/// The time that a busy machine may add. A validation that ignores the deadline goes on forever.
const GRACE: Duration = Duration::from_secs(10);
/// The most bytes that one validation may add (docs/architecture.md#promises).
const MOST_MEMORY: i64 = 2 * 1024 * 1024;

fn flood(head: &str, unit: &str) -> Answer {
    Answer::Flood { head: head.as_bytes().to_vec(), unit: unit.repeat(64).into_bytes() }
}

/// Everything that a server may do to hold a client up, or to fill its memory.
fn menagerie() -> Vec<(&'static str, Answer)> {
    const OK: &str = "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n";
    const NO: &str = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\n";
    let ok = |rest: &str, unit: &str| flood(&format!("{OK}{rest}"), unit);
    let raw = |text: String| Answer::Raw(text.into_bytes());
    let challenges = |count: usize, unit: &str| unit.repeat(count);
    vec![
        ("nothing at all", Answer::Silence),
        ("a byte a minute", Answer::Drip(b"H".to_vec())),
        ("endless headers", ok("", "X-Padding: aaaaaaaaaaaaaaaa\r\n")),
        ("an endless header", ok("X-Padding: ", "aaaaaaaaaaaaaaaa")),
        ("an endless name of a header", ok("", "aaaaaaaaaaaaaaaa")),
        ("an endless first line", flood("HTTP/1.1 200 ", "OK")),
        ("an endless version", flood("", "HTTP/")),
        ("endless informational answers", flood("", "HTTP/1.1 100 Continue\r\n\r\n")),
        ("an endless body in chunks", ok("Transfer-Encoding: chunked\r\n\r\n", "4\r\nzzzz\r\n")),
        (
            "an endless body of one length",
            ok("Content-Length: 9223372036854775807\r\n\r\n", "zzzzzzzzzzzzzzzz"),
        ),
        ("an endless body without a length", ok("Connection: close\r\n\r\n", "{\"a\":[{\"a\":[{\"a\":[")),
        ("an endless extension of a chunk", ok("Transfer-Encoding: chunked\r\n\r\n4;", "a=b;")),
        ("endless trailers", ok("Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-Trailer: a\r\n")),
        (
            "an endless body of a refusal",
            flood(&format!("{NO}Transfer-Encoding: chunked\r\n\r\n"), "4\r\n<<<<\r\n"),
        ),
        ("a gzip bomb", bomb()),
        (
            "a header of a mebibyte",
            raw(format!("{OK}X-Padding: {}\r\nContent-Length: 2\r\n\r\n{{}}", "a".repeat(1024 * 1024))),
        ),
        (
            "ten thousand challenges in one line",
            raw(format!(
                "HTTP/1.1 401 No\r\nWWW-Authenticate: {}\r\nContent-Length: 0\r\n\r\n",
                challenges(10_000, "A b,")
            )),
        ),
        (
            "ten thousand challenges on their own lines",
            raw(format!(
                "HTTP/1.1 401 No\r\n{}\r\n",
                challenges(10_000, "WWW-Authenticate: Basic realm=\"x\"\r\n")
            )),
        ),
        (
            "a thousand parameters",
            raw(format!(
                "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer {}\r\n\r\n",
                challenges(1_000, "realm=\"https://a/b\",")
            )),
        ),
        ("JSON a hundred thousand deep", Answer::status(200).body("[".repeat(100_000))),
        (
            "a token of a hundred thousand letters",
            Answer::status(200).body(format!("{{\"token\":\"{}\"}}", "a".repeat(100_000))),
        ),
        ("a redirect in a circle", Answer::status(302).header("Location", "/v2/")),
        ("a redirect to a missing slash, for ever", Answer::status(301).header("Location", "/token/")),
        ("HTTP/1.0", raw("HTTP/1.0 200 OK\r\n\r\n{}".into())),
        ("frames of HTTP/2", Answer::Raw([0, 0, 18, 4, 0, 0, 0, 0, 0].repeat(1_000))),
        ("an early close", Answer::Close),
        ("a reset", Answer::Reset),
        ("a body that breaks off", raw(format!("{OK}Content-Length: 10\r\n\r\n{{"))),
        (
            "two answers at once",
            raw(format!("{OK}Content-Length: 2\r\n\r\n{{}}{OK}Content-Length: 2\r\n\r\n{{}}")),
        ),
    ]
}

/// A body that unpacks to 160 times its size: deflate with fixed codes, a zero and then "258 more of the same" in 13 bits.
fn bomb() -> Answer {
    let mut bits = String::from("110");
    bits.push_str("00110000");
    for _ in 0..60_000 {
        bits.push_str("1100010100000");
    }
    let bytes = bits
        .as_bytes()
        .chunks(8)
        .map(|chunk| chunk.iter().enumerate().fold(0, |byte, (place, bit)| byte | (bit - b'0') << place));
    let body: Vec<u8> = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].into_iter().chain(bytes).collect();
    Answer::status(200)
        .header("Content-Encoding", "gzip")
        .header("Docker-Distribution-Api-Version", "registry/2.0")
        .body(body)
}

/// The step of a validation at which the server is hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Ping,
    TokenService,
    Tags,
}

impl Step {
    const ALL: [Self; 3] = [Self::Ping, Self::TokenService, Self::Tags];

    /// A registry that does so at this step, and is in order up to there.
    async fn server(self, answer: Answer) -> Server {
        Server::http(move |asked| self.reply(asked, &answer)).await
    }

    fn reply(self, asked: &ReceivedRequest, answer: &Answer) -> Answer {
        match self {
            Self::Ping => answer.clone(),
            Self::TokenService if asked.path.starts_with("/token") => answer.clone(),
            Self::TokenService => Answer::challenge("Bearer realm=\"/token\""),
            Self::Tags if asked.path.contains("/tags/") => answer.clone(),
            Self::Tags if asked.authorization().is_some() => Answer::granted(),
            Self::Tags => Answer::challenge("Basic realm=x"),
        }
    }

    /// The same, until it is corrected.
    async fn server_until(self, answer: Answer, is_corrected: Arc<AtomicBool>) -> Server {
        Server::http(move |asked| match is_corrected.load(Ordering::Relaxed) {
            true if asked.path.contains("/tags/") && asked.authorization().is_some() => Answer::tags(),
            true => htpasswd(asked),
            false => self.reply(asked, &answer),
        })
        .await
    }
}

fn hasty(url: &str) -> Target {
    Target { deadline: DEADLINE, repository: RepositoryName::parse("hello").ok(), ..target(url) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fault_23_hostile_answers_at_every_step() {
    let _turn = crate::TURN.lock().await;
    let cases = Step::ALL
        .into_iter()
        .flat_map(|step| menagerie().into_iter().map(move |(name, answer)| (step, name, answer)));
    let late: Vec<String> = stream::iter(cases)
        .map(|(step, name, answer)| {
            let case = async move {
                let is_corrected = Arc::new(AtomicBool::new(false));
                let server = step.server_until(answer, is_corrected.clone()).await;
                // What a prober is set up with belongs to the start of a program.
                let prober = prober();
                let (target, login) = (hasty(&server.url()), alice());
                let started = Instant::now();
                let findings = prober.probe(&target, &login, now()).await;
                let took = started.elapsed();
                let told = format!("{findings:?}").contains(PASSWORD);
                is_corrected.store(true, Ordering::Relaxed);
                let target = Target { deadline: GRACE, ..target };
                let credentials = prober.probe(&target, &login, now()).await.credentials;
                let is_left = !matches!(credentials, CredentialsFinding::Validated(_));
                (took > DEADLINE + GRACE || told || is_left)
                    .then(|| format!("{name} at {step:?}: {took:?}, told {told}, then {credentials:?}\n"))
            };
            // In a task of its own: the one that is flooded must not hold up the clock of the others.
            async move { tokio::spawn(case).await.unwrap() }
        })
        .buffer_unordered(3)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(late.is_empty(), "{}", late.concat());
}

/// What the kernel holds between two ends of a connection, and the caps besides. Time and memory don't show who reads on and
/// on and keeps nothing; the other end does.
const MOST_TRAFFIC: usize = 16 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_bounded_data_from_every_server() {
    let _turn = crate::TURN.lock().await;
    let mut over = String::new();
    for (name, answer) in menagerie() {
        let listener = crate::listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (log, script) = (Log::default(), Arc::new(move |_: &ReceivedRequest| answer.clone()));
        let _post =
            RecordingListener::at(listener, name.to_owned(), ConnectionMode::Clear, script, log.clone());
        prober().probe(&Target { deadline: 4 * DEADLINE, ..hasty(&url) }, &alice(), now()).await;
        let flooded: usize = log.arrivals().iter().map(|arrival| arrival.flooded).sum();
        if flooded > MOST_TRAFFIC {
            let _ = writeln!(over, "{name}: {} MiB", flooded / 1024 / 1024);
        }
    }
    assert!(over.is_empty(), "{over}");
}

fn prober() -> Prober {
    Prober::new(ProberSettings::default()).unwrap()
}

/// How far away the registry is whose validations are timed: so many milliseconds for each answer. The nearer, the finer the
/// measure; the further, the less it matters that a busy machine has too little time for the servers and for the clients.
/// Who waits for hostile servers waits for their deadline, wherever the registry is.
const DISTANCES: [u64; 7] = [25, 25, 25, 50, 100, 200, 400];

/// How far away it is by the beginning of the path: `GET /25/v2/`.
fn distance(request: &str) -> Duration {
    Duration::from_millis(request.split('/').nth(1).and_then(|first| first.parse().ok()).unwrap_or_default())
}

/// Asks for a password, and takes its time.
async fn distant_registry() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let request = String::from_utf8_lossy(&buffer[..length]);
                    let right = request.contains(&basic_alice());
                    tokio::time::sleep(distance(&request)).await;
                    let answer = if right {
                        "HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Length: 2\r\n\r\n{}"
                    } else {
                        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
                    };
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// By which the process of its own learns what to ask.
const VARIABLE: &str = "VERDICTS_HOSTILE_SERVERS";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hostile_servers_do_not_affect_others() {
    let _turn = crate::TURN.lock().await;
    let mut servers = Vec::new();
    for (name, answer) in menagerie() {
        for step in [Step::Ping, Step::TokenService] {
            servers.push((format!("{name} at {step:?}"), step.server(answer.clone()).await));
        }
    }
    let quick = Server::http(htpasswd).await;
    let mut list = format!("{} {}\n", distant_registry().await, quick.port);
    for (name, server) in &servers {
        let _ = writeln!(list, "{} {name}", server.port);
    }
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "hostile::in_a_process_of_its_own", "--nocapture", "--test-threads=1"])
        .env(VARIABLE, &list)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    say(&said
        .lines()
        .filter(|line| line.starts_with("hostile: "))
        .fold(String::new(), |text, line| text + line + "\n"));
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn htpasswd(asked: &ReceivedRequest) -> Answer {
    if asked.authorization() == Some(&basic_alice()) {
        Answer::granted()
    } else {
        Answer::challenge("Basic realm=x")
    }
}

#[test]
#[ignore = "started by the test above, with servers to ask"]
#[allow(clippy::print_stdout, reason = "the report to the process that started this one")]
#[expect(clippy::disallowed_methods, reason = "a program of its own, whose edge this is")]
fn in_a_process_of_its_own() {
    let Ok(list) = std::env::var(VARIABLE) else { return };
    let mut lines = list.lines();
    let (distant, quick) = lines.next().unwrap().split_once(' ').unwrap();
    let servers: Vec<(String, String)> = lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(port, name)| (format!("http://127.0.0.1:{port}"), name.to_owned()))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let url = |port: &str| format!("http://127.0.0.1:{port}");
    // The harness has begun a line of its own.
    println!("\nhostile: {}", runtime.block_on(memory(&servers, &url(quick))));
    println!("hostile: {}", runtime.block_on(delay(&servers, &url(distant))));
}

/// Resident memory in bytes, where the system says.
fn resident() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<i64>().ok()? * 1024)
}

/// The most that memory grows by while `work` goes on.
async fn growth(work: impl Future<Output = ()>) -> i64 {
    let before = resident().unwrap_or(0);
    let over = Arc::new(AtomicBool::new(false));
    let seen = over.clone();
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        while !seen.load(Ordering::Relaxed) {
            most = most.max(resident().unwrap_or(0));
            std::thread::sleep(Duration::from_millis(1));
        }
        most.max(resident().unwrap_or(0))
    });
    work.await;
    over.store(true, Ordering::Relaxed);
    watch.join().unwrap() - before
}

/// Each hostile server alone, and all at once: how much memory they take at most, and leave taken.
async fn memory(servers: &[(String, String)], quick: &str) -> String {
    if resident().is_none() {
        return "memory can't be measured here".into();
    }
    let prober = prober();
    for _ in 0..100 {
        prober.probe(&hasty(quick), &alice(), now()).await;
    }
    let before = resident().unwrap_or(0);
    let mut worst = (0, "none");
    for (url, name) in servers {
        let grown = growth(async { drop(prober.probe(&hasty(url), &alice(), now()).await) }).await;
        assert!(grown <= MOST_MEMORY, "{name}: {grown} bytes more");
        worst = worst.max((grown, name));
    }
    let left = resident().unwrap_or(0) - before;
    assert!(left <= MOST_MEMORY, "{left} bytes more after all of them");
    format!(
        "memory at most {} KiB above before ({}), {} KiB after {} servers",
        worst.0 / 1024,
        worst.1,
        left / 1024,
        servers.len()
    )
}

/// How long a validation takes beside all hostile servers, next to how long it takes alone.
async fn delay(servers: &[(String, String)], distant: &str) -> String {
    const MOST: f64 = 1.10;
    let prober = prober();
    let mut ratios = Vec::new();
    for distance in DISTANCES {
        let distant = &format!("{distant}/{distance}");
        let alone = median(&prober, distant).await;
        let hostile = servers.iter().map(|(url, _)| {
            let (prober, target) = (prober.clone(), hasty(url));
            tokio::spawn(async move {
                loop {
                    prober.probe(&target, &alice(), now()).await;
                    // The operator waits far longer before it asks again.
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            })
        });
        let hostile: Vec<_> = hostile.collect();
        let beside = median(&prober, distant).await;
        hostile.iter().for_each(tokio::task::JoinHandle::abort);
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        if ratio <= MOST {
            return format!(
                "a validation takes {alone:?} alone, {beside:?} beside {} hostile servers",
                servers.len()
            );
        }
        ratios.push(format!("{ratio:.2} at {distance} ms"));
    }
    panic!("validations take so many times as long beside hostile servers: {}", ratios.join(", "));
}

async fn median(prober: &Prober, url: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..30 {
        let started = Instant::now();
        prober.probe(&target(url), &alice(), now()).await;
        times.push(started.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}
