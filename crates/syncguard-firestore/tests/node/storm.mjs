// Acquires locks as the TypeScript SyncGuard does: in read-write transactions, by the clock of this host.
//
// Arguments: the number of clients, the duration in milliseconds, a directory, and the keys. Each holder
// of a lock creates a file that must not exist yet, records its fence, and removes the file. Prints how
// many locks were granted and how many extends were made.
import { appendFileSync, closeSync, openSync, unlinkSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { Firestore } from "@google-cloud/firestore";

const GRACE = 1000;
const TTL = 30000;
const [clients, millis] = process.argv.slice(2, 4).map(Number);
const [directory, ...keys] = process.argv.slice(4);
const end = Date.now() + millis;
const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));
const below = (limit) => Math.floor(Math.random() * limit);

const acquire = (client, key) => client.runTransaction(async (transaction) => {
  const lock = client.collection("locks").doc(key);
  const counter = client.collection("fence_counters").doc(`fence:${key}`);
  const held = await transaction.get(lock);
  const counted = await transaction.get(counter);
  const now = Date.now();
  if (held.exists && held.get("expiresAtMs") > now - GRACE) return undefined;
  const fence = String(BigInt(counted.get("fence") ?? "0") + 1n).padStart(15, "0");
  const lockId = randomBytes(16).toString("base64url");
  transaction.set(counter, { fence, keyDebug: key });
  transaction.set(lock, { lockId, expiresAtMs: now + TTL, acquiredAtMs: now, key, fence });
  return { lockId, fence };
});

const byId = (client, transaction, lockId) =>
  transaction.get(client.collection("locks").where("lockId", "==", lockId).limit(1));

const extend = (client, lockId) => client.runTransaction(async (transaction) => {
  const [lock] = (await byId(client, transaction, lockId)).docs;
  if (lock === undefined || lock.get("expiresAtMs") <= Date.now() - GRACE) return false;
  transaction.update(lock.ref, { expiresAtMs: Date.now() + TTL });
  return true;
});

const release = (client, lockId) => client.runTransaction(async (transaction) => {
  const [lock] = (await byId(client, transaction, lockId)).docs;
  if (lock === undefined) return false;
  transaction.delete(lock.ref);
  return true;
});

// Under contention the client gives up after some attempts, with this code.
const ABORTED = 10;
const again = async (attempt) => {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (error.code !== ABORTED) throw error;
    }
  }
};

const must = (holds, what) => {
  if (!holds) throw new Error(what);
};

let grants = 0;
let extends_ = 0;
async function contend() {
  const client = new Firestore({ projectId: "p" });
  while (Date.now() < end) {
    const key = keys[below(keys.length)];
    const grant = await again(() => acquire(client, key));
    if (grant === undefined) {
      await sleep(below(20));
      continue;
    }
    closeSync(openSync(`${directory}/${key}.held`, "wx"));
    appendFileSync(`${directory}/${key}.fences`, `${grant.fence} node\n`);
    await sleep(below(5));
    if (below(4) === 0) {
      must(await again(() => extend(client, grant.lockId)), "a lock was lost");
      extends_ += 1;
    }
    unlinkSync(`${directory}/${key}.held`);
    must(await again(() => release(client, grant.lockId)), "a lock was gone");
    grants += 1;
    await sleep(below(10));
  }
}

await Promise.all(Array.from({ length: clients }, contend));
console.log(JSON.stringify({ grants, extends: extends_ }));
