//! Servers in containers, each with a file in `compose/`.

use std::{net::SocketAddr, path::PathBuf};

use syncguard_testkit::find::Store;

use crate::{
    command::{Call, call},
    failure::Failure,
    say::say,
};

const PROGRAM: &str = "docker";

/// A Docker engine that is running, with Compose.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    program: PathBuf,
}

impl Engine {
    /// Returns the engine, if it is running. The client program alone is not enough.
    pub(crate) fn find() -> Option<Self> {
        let engine = Self::at(PROGRAM);
        engine.is_running().then_some(engine)
    }

    pub(crate) fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    fn is_running(&self) -> bool {
        self.call("info").succeeds() && self.call("compose version").succeeds()
    }

    fn call(&self, arguments: &str) -> Call {
        call(&self.program, arguments)
    }
}

/// The container of one store.
#[derive(Debug)]
pub(crate) struct Project {
    engine: Engine,
    store: Store,
    name: String,
    port: HostPort,
}

/// The port of a container on the loopback interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostPort {
    Default,
    Free,
}

impl Project {
    /// Returns the container for manual use: on the default port, with persistent data.
    pub(crate) fn persistent(engine: &Engine, store: Store) -> Self {
        let name = format!("syncguard-{}", store.name());
        Self { engine: engine.clone(), store, name, port: HostPort::Default }
    }

    fn for_this_run(engine: &Engine, store: Store) -> Self {
        let name = format!("syncguard-test-{}-{}", store.name(), std::process::id());
        Self { engine: engine.clone(), store, name, port: HostPort::Free }
    }

    /// Starts the container, waits until it is healthy, and returns its URL.
    pub(crate) fn up(&self) -> Result<String, Failure> {
        self.compose("up --detach --wait --quiet-pull").run()?;
        self.url()
    }

    /// Stops the container. Its data is kept.
    pub(crate) fn down(&self) -> Result<(), Failure> {
        self.compose("down").run()
    }

    /// Returns its URL, if it is running.
    pub(crate) fn running(&self) -> Result<Option<String>, Failure> {
        let containers = self.compose("ps --quiet --status running").read_quietly()?;
        if containers.trim().is_empty() { Ok(None) } else { self.url().map(Some) }
    }

    fn url(&self) -> Result<String, Failure> {
        let store = self.store;
        let query = format!("port {} {}", store.name(), store.port());
        let answer = self.compose(&query).read_quietly()?;
        let address: SocketAddr = answer
            .trim()
            .parse()
            .map_err(|_| Failure::NoAddress { store: store.name(), answer })?;
        Ok(store.url(address))
    }

    fn compose(&self, task: &str) -> Call {
        let Self { name, store, .. } = self;
        let file = format!("compose/{}.yml", store.name());
        let call = self.engine.call(&format!("compose --project-name {name} --file {file} {task}"));
        match self.port {
            HostPort::Default => call,
            // Without a host port, the engine chooses a free one.
            HostPort::Free => call.env(&port_variable(*store), ""),
        }
    }
}

/// A container that exists as long as a test run.
#[derive(Debug)]
pub(crate) struct Container(Project);

impl Container {
    pub(crate) fn start(engine: &Engine, store: Store) -> Result<(Self, String), Failure> {
        // Created first, so that a container that never becomes healthy is removed as well.
        let container = Self(Project::for_this_run(engine, store));
        let url = container.0.up()?;
        Ok((container, url))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Err(failure) = self.0.compose("down --volumes").run() {
            say(format_args!("a container may be left: {failure}"));
        }
    }
}

fn port_variable(store: Store) -> String {
    format!("SYNCGUARD_{}_PORT", store.name().to_uppercase())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use tempfile::TempDir;

    use super::*;
    use crate::command::ROOT;

    /// A program that records its calls, and answers as a Docker engine does.
    struct FakeDocker {
        directory: TempDir,
        engine: Engine,
    }

    impl FakeDocker {
        fn new(engine_answers: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let program = directory.path().join("docker");
            let calls = directory.path().join("calls");
            let script = format!(
                "#!/bin/sh\n\
                 echo \"${{SYNCGUARD_REDIS_PORT-usual}}: $*\" >> {}\n\
                 case \"$*\" in\n\
                 info) exit {engine_answers};;\n\
                 *' ps '*) echo 0123abcd;;\n\
                 *' port '*) echo 127.0.0.1:49153;;\n\
                 esac\n",
                calls.display()
            );
            let text = directory.path().join("text");
            fs::write(&text, script).unwrap();
            // A file that this process had open for writing may still be open in a child that
            // another test is just starting, and could not be executed.
            let install = Command::new("install").args([&text, &program]).status();
            assert!(install.unwrap().success());
            Self { directory, engine: Engine::at(program) }
        }

        fn calls(&self) -> Vec<String> {
            let calls = fs::read_to_string(self.directory.path().join("calls")).unwrap();
            calls.lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn a_client_without_an_engine_is_not_running() {
        assert!(!FakeDocker::new("1").engine.is_running());
        assert!(FakeDocker::new("0").engine.is_running());
        assert!(!Engine::at("/nowhere/docker").is_running());
    }

    #[test]
    fn a_container_of_a_run_has_a_free_port_and_is_removed_with_its_data() {
        let docker = FakeDocker::new("0");
        let (container, url) = Container::start(&docker.engine, Store::Redis).unwrap();
        assert_eq!(url, "redis://127.0.0.1:49153");
        drop(container);
        let project = format!(
            ": compose --project-name syncguard-test-redis-{} --file compose/redis.yml",
            std::process::id()
        );
        let expected = ["up --detach --wait --quiet-pull", "port redis 6379", "down --volumes"];
        assert_eq!(docker.calls(), expected.map(|task| format!("{project} {task}")));
    }

    #[test]
    fn a_persistent_container_has_the_default_port_and_keeps_its_data() {
        let docker = FakeDocker::new("0");
        let project = Project::persistent(&docker.engine, Store::Redis);
        project.up().unwrap();
        assert_eq!(project.running().unwrap().as_deref(), Some("redis://127.0.0.1:49153"));
        project.down().unwrap();
        let begin = "usual: compose --project-name syncguard-redis --file compose/redis.yml";
        let last = docker.calls().pop().unwrap();
        assert_eq!(last, format!("{begin} down"));
    }

    #[test]
    fn every_store_has_a_compose_file_that_reads_its_port_from_the_variable() {
        for store in Store::ALL {
            let file = format!("compose/{}.yml", store.name());
            let file = fs::read_to_string(Path::new(ROOT).join(file));
            let port = store.port();
            let published = format!("127.0.0.1:${{{}-{port}}}:{port}", port_variable(store));
            assert!(file.unwrap().contains(&published), "{published}");
        }
    }
}
