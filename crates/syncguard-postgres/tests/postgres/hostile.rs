//! Keys that a store could misinterpret. Each is stored under the name that the TypeScript client
//! uses, or under a different name if that client cannot store the key.

use std::{collections::BTreeMap, sync::Arc};

use sqlx::Row;
use syncguard_core::backend::{AcquireOutcome, LockBackend};
use syncguard_postgres::PostgresBackend;
use syncguard_testkit::{
    hostile::HOSTILE,
    operations::{LONG, ask, granted, is_contended, released},
    server::PostgresServer,
};

use crate::{Foreign, Names, shared};

/// Names as the functions of the TypeScript client compute them.
const VECTORS: &str = include_str!("../../../syncguard-core/testdata/core-vectors.json");

const ID: &str = "abcdefghijklmnopqrstuv";

struct Scene {
    _server: Arc<PostgresServer>,
    names: Names,
    backend: PostgresBackend,
    peer: Foreign,
}

impl Scene {
    async fn set() -> Self {
        let (server, names) = (shared().await, Names::fresh());
        let backend = names.connect(&server.url()).await;
        let peer = Foreign::open(&server.url()).await;
        Self { _server: server, names, backend, peer }
    }

    /// Writes a live lock as a TypeScript client does.
    async fn write(&mut self, name: &str) -> Result<(), sqlx::Error> {
        let sql = format!(
            "INSERT INTO {} (key, lock_id, expires_at_ms, acquired_at_ms, fence, user_key)
             VALUES ($1, $2, 9e15, 1, '000000000000001', $1)",
            self.names.locks
        );
        let write = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(name).bind(ID);
        write.execute(&mut self.peer.0).await.map(drop)
    }

    async fn clear(&mut self) {
        self.peer.run(&format!("DELETE FROM {}", self.names.locks)).await;
    }

    /// Reads the one lock and its counter: the key, the key of the user, the key of the counter.
    async fn stored(&mut self) -> [String; 3] {
        let sql = format!(
            "SELECT key, user_key, fence_key FROM {}, {} WHERE fence_key = 'fence:' || key",
            self.names.locks, self.names.counters
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut self.peer.0).await.unwrap();
        assert_eq!(rows.len(), 1);
        [0, 1, 2].map(|column| rows[0].get(column))
    }

    /// Normalises a key, which is all that the TypeScript client does to it here.
    async fn normalised(&mut self, text: &str) -> Result<String, sqlx::Error> {
        let normalise = sqlx::query_scalar("SELECT normalize($1, NFC)").bind(text);
        normalise.fetch_one(&mut self.peer.0).await
    }
}

/// U+0000 is the only character that the TypeScript client cannot store: the server rejects the
/// text of any client.
fn is_rejected_by_the_server(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().unwrap();
    error.code().as_deref() == Some("22021") && error.message().contains("0x00")
}

#[tokio::test]
async fn a_hostile_key_is_the_same_row_for_both_clients_or_a_row_of_ours_alone() {
    let mut scene = Scene::set().await;
    let backend = scene.backend.clone();
    let (mut shared, mut ours_alone) = (BTreeMap::new(), BTreeMap::new());
    for text in HOSTILE {
        let theirs = scene.normalised(text).await;
        match &theirs {
            Ok(name) => {
                scene.write(name).await.unwrap();
                let outcome = backend.acquire(&ask(text, LONG)).await.unwrap();
                let AcquireOutcome::Contended { holder: Some(holder) } = outcome else {
                    panic!("{text:?}: {outcome:?}");
                };
                assert!(holder.silent, "{text:?}");
                let found = backend.lookup(&ask(text, LONG).key.into()).await.unwrap().unwrap();
                assert_eq!((found.key.as_str(), found.lock_id.as_str()), (name.as_str(), ID));
                scene.clear().await;
            }
            Err(refused) => {
                assert!(is_rejected_by_the_server(refused), "{text:?}: {refused}");
                let refused = scene.write(text).await.unwrap_err();
                assert!(is_rejected_by_the_server(&refused), "{text:?}: {refused}");
            }
        }
        let request = ask(text, LONG);
        granted(&backend, &request).await;
        assert!(is_contended(&backend, text).await);
        let [name, user_key, _] = scene.stored().await;
        match theirs {
            Ok(theirs) => {
                assert_eq!((&name, &user_key), (&theirs, &theirs), "{text:?}");
                let refused = scene.write(&theirs).await.unwrap_err();
                let refused = refused.as_database_error().unwrap().is_unique_violation();
                assert!(refused, "{text:?}: their row would be another one");
                shared.entry(name).or_insert_with(Vec::new).push(*text);
            }
            Err(_) => assert_eq!(ours_alone.insert(name, *text), None, "{text:?}"),
        }
        assert!(released(&backend, &request).await);
        scene.clear().await;
    }
    assert!(shared.len() >= 60 && ours_alone.len() >= 3, "{ours_alone:?}");
    assert!(ours_alone.keys().all(|name| !shared.contains_key(name)), "{ours_alone:?}");
    for (name, texts) in shared {
        let forms = texts.iter().filter(|text| ask(text, LONG).key.as_str() == name);
        assert_eq!(forms.count(), texts.len(), "{texts:?} are not forms of one key");
    }
}

#[tokio::test]
async fn stored_names_equal_those_of_the_typescript_client() {
    let mut scene = Scene::set().await;
    let vectors = "SELECT vector->>'key', vector->'lock'->>'ok', vector->'fence'->>'ok'
        FROM jsonb_array_elements($1::jsonb->'storageKeys') AS vectors (vector)
        WHERE vector->>'prefix' = '' AND vector->>'limit' = '1700' AND vector->>'reserve' = '0'";
    // No text of the server holds U+0000; none of these vectors does either.
    let json = VECTORS.replace("\\u0000", "");
    let vectors = sqlx::query(vectors).bind(json).fetch_all(&mut scene.peer.0).await.unwrap();
    assert!(vectors.len() > 5, "{} vectors", vectors.len());
    for vector in vectors {
        let [text, lock, fence] = [0, 1, 2].map(|column| vector.get::<String, _>(column));
        let request = ask(&text, LONG);
        granted(&scene.backend, &request).await;
        let [name, _, fence_key] = scene.stored().await;
        assert_eq!((name, fence_key), (lock, fence), "{text:?}");
        scene.clear().await;
    }
}
