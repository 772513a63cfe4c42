//! Prints what happens in the history of a seed, in order of time: `cargo run --example trace -- SEED [TEXT]`, where
//! only lines with TEXT are printed.

#![expect(clippy::print_stdout, reason = "what this program is for")]

use std::{env, error::Error, time::Duration};

use registry_simulation::{
    history::generate::history, registries::ServerRecord, trace::AcceptedWrite, wire::log::SentRequest,
    world::run,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let seed = arguments.next().ok_or("usage: trace SEED [TEXT]")?.parse()?;
    let text = arguments.next().unwrap_or_default();
    let history = history(seed);
    println!("{history}");
    let trace = run(&history)?;
    let mut lines: Vec<(Duration, String)> = Vec::new();
    lines.extend(trace.requests.iter().map(|request| (request.at, request_line(request))));
    lines.extend(trace.served.iter().map(|record| (record.at, server_line(record))));
    lines.extend(trace.writes.iter().map(|write| (write.at, write_line(write))));
    lines.sort_by_key(|(at, _)| *at);
    for (at, line) in lines.iter().filter(|(_, line)| line.contains(&text)) {
        println!("{:>10.3} {line}", at.as_secs_f64());
    }
    Ok(())
}

fn request_line(sent: &SentRequest) -> String {
    let SentRequest { replica, incarnation, method, path, fate, .. } = sent;
    format!("replica {replica}.{incarnation}: {method} {path}: {fate:?}")
}

fn server_line(record: &ServerRecord) -> String {
    let ServerRecord { host, request, status, .. } = record;
    let login = request.login().map(|(user, password)| format!(" as {user}:{password}")).unwrap_or_default();
    format!("{host}: {} {}{login}: {status:?}", request.method, request.path)
}

fn write_line(write: &AcceptedWrite) -> String {
    let who = if write.by_operator { "operator" } else { "user" };
    let what = match (&write.before, &write.after) {
        (None, _) => "create",
        (_, None) => "delete",
        _ => "update",
    };
    let object = if write.is_registry() { write.after.as_deref() } else { None };
    let shown = object.map(|object| format!(" {} {}", object["spec"], object["status"])).unwrap_or_default();
    let AcceptedWrite { kind, namespace, name, subresource, .. } = write;
    format!("{who}: {what} {kind} {namespace}/{name} {subresource}{shown}")
}
