// Uses the features of the client that a lock needs, and fails if a response is not as expected.
import assert from "node:assert/strict";
import { FieldValue, Firestore, Timestamp } from "@google-cloud/firestore";

const GRPC = { NOT_FOUND: 5, ALREADY_EXISTS: 6, FAILED_PRECONDITION: 9 };
const client = new Firestore({ projectId: "surface" });
const locks = client.collection("locks");
const lock = locks.doc("payment:42");
const fails = (promise, code) => assert.rejects(promise, (error) => error.code === code);

// A listener is notified of a document that is missing, is created, changes and is deleted.
const received = [];
const deleted = new Promise((resolve, reject) => {
  const stop = lock.onSnapshot((snapshot) => {
    received.push(snapshot.exists ? snapshot.get("fence") : null);
    if (received.length > 1 && !snapshot.exists) resolve(stop());
  }, reject);
});
while (received.length < 1) await new Promise((resolve) => setTimeout(resolve, 5));

await lock.create({ lockId: "a", fence: 1, at: FieldValue.serverTimestamp() });
await fails(lock.create({ lockId: "b" }), GRPC.ALREADY_EXISTS);
await fails(locks.doc("none").update({ fence: 1 }), GRPC.NOT_FOUND);

const first = await lock.get();
assert.ok(first.get("at") instanceof Timestamp);
assert.ok(first.get("at").isEqual(first.updateTime));
await lock.update({ fence: FieldValue.increment(1) }, { lastUpdateTime: first.updateTime });
await fails(lock.delete({ lastUpdateTime: first.updateTime }), GRPC.FAILED_PRECONDITION);

const byId = await locks.where("lockId", "==", "a").limit(1).get();
assert.equal(byId.docs[0].get("fence"), 2);
await client.runTransaction(async (transaction) => {
  const found = await transaction.get(locks.where("lockId", "==", "a"));
  found.forEach((document) => transaction.delete(document.ref));
});
assert.equal((await lock.get()).exists, false);

const batch = client.batch();
for (const id of ["a", "b", "c"]) batch.set(client.doc(`fences/${id}`), { n: id });
await batch.commit();
const page = await client.collection("fences").orderBy("n", "desc").startAfter("c").limit(2).get();
assert.deepEqual(page.docs.map((document) => document.id), ["b", "a"]);

await deleted;
assert.deepEqual(received, [null, 1, 2, null]);
console.log("ok");
