//! What the suite has shown of the backends: the certificates that the project keeps.

use serde_json::Value;

/// The certificates, by the backend's name: `cargo xtask certify` writes them.
const CERTIFICATES: [(&str, &str); 8] = [
    ("memory", include_str!("../../../../docs/certificates/memory.json")),
    ("sqlite", include_str!("../../../../docs/certificates/sqlite.json")),
    ("postgres", include_str!("../../../../docs/certificates/postgres.json")),
    ("postgres-queue", include_str!("../../../../docs/certificates/postgres-queue.json")),
    ("nats", include_str!("../../../../docs/certificates/nats.json")),
    ("redis", include_str!("../../../../docs/certificates/redis.json")),
    ("redis-streams", include_str!("../../../../docs/certificates/redis-streams.json")),
    ("sqs", include_str!("../../../../docs/certificates/sqs.json")),
];

/// Says how many cases a backend passed, refused and could not run.
pub(super) fn shown(name: &str) -> String {
    let text = CERTIFICATES.iter().find(|(of, _)| *of == name).map_or("", |(_, text)| text);
    let certificate: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(cases) = certificate["cases"].as_array() else { return "nothing yet".into() };
    let count = |status: &str| cases.iter().filter(|case| case["status"] == status).count();
    let parts = [("passed", "passed"), ("refused", "refused"), ("not_run", "not run")];
    let told = parts.map(|(status, word)| (count(status), word)).into_iter();
    let told = told.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    told.collect::<Vec<_>>().join(", ")
}
