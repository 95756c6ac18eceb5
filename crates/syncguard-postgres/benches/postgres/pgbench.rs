use std::{io::Write, path::Path, process::Command};

use syncguard_testkit::server::PostgresServer;

use crate::raw::{CLASS, SETTINGS, statement};

/// Makes pgbench acquire and release `pairs` times over one connection, with the statements of the
/// backend. Returns the mean time of an acquire and of a release, in microseconds.
pub(crate) fn acquire_and_release(server: &PostgresServer, key: &str, pairs: usize) -> [f64; 2] {
    let (fence_key, class) = (format!("fence:{key}"), CLASS.to_string());
    let definitions = [
        ("key", key),
        ("fence_key", fence_key.as_str()),
        ("owner", "bench"),
        ("ttl", "30000"),
        ("grace", "1000"),
        ("top", "900000000000000"),
        ("channel", "syncguard_locks_released"),
        ("class", class.as_str()),
    ];
    let acquire = with_names(
        include_str!("../../src/sql/acquire.sql"),
        &["key", "id", "grace", "ttl", "fence_key", "key", "top", "owner"],
    );
    let release =
        with_names(include_str!("../../src/sql/release.sql"), &["id", "grace", "channel", "class"]);
    let mut script = tempfile();
    let id = "\\set id random(1, 1000000000000000)";
    writeln!(script.0, "{id}\n{acquire};\n{release};").unwrap();
    let settings = SETTINGS.map(|(name, value)| format!("-c {name}={value}"));
    let mut command = Command::new("pgbench");
    command.env("PGOPTIONS", settings.join(" "));
    command.args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres"]);
    command.args(["-n", "-r", "-M", "prepared", "-c", "1", "-t", &pairs.to_string()]);
    for (name, value) in definitions {
        command.args(["-D", &format!("{name}={value}")]);
    }
    command.arg("-f").arg(&script.1).arg("postgres");
    let output = command.output().unwrap();
    let _ = std::fs::remove_file(&script.1);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    means(&String::from_utf8(output.stdout).unwrap())
}

/// Replaces the parameters with variables of pgbench.
fn with_names(text: &str, names: &[&str]) -> String {
    let mut text = statement(text);
    for (index, name) in names.iter().enumerate().rev() {
        text = text.replace(&format!("${}", index + 1), &format!(":{name}"));
    }
    text
}

/// Reads the times of the two statements from the end of the report.
fn means(report: &str) -> [f64; 2] {
    let times = report.split("statement latencies").nth(1).unwrap().lines();
    let times: Vec<f64> =
        times.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    let [.., acquire, release] = times.as_slice() else { panic!("{report}") };
    [acquire * 1e3, release * 1e3]
}

fn tempfile() -> (std::fs::File, std::path::PathBuf) {
    let name = format!("syncguard-pgbench-{}.sql", std::process::id());
    let path = Path::new(&std::env::temp_dir()).join(name);
    (std::fs::File::create(&path).unwrap(), path)
}
