// Acquires locks as the TypeScript SyncGuard does: in read-write transactions, by the clock of this host.
//
// Arguments: the number of clients, the maximum duration in milliseconds, a directory, and the keys. Ends
// when the directory contains a file `stop`. Each holder of a lock creates a file that names the hold, records
// its fence, and removes the file; what it finds beside it is recorded as a flaw (see `holds.rs`).
import { appendFileSync, existsSync, readdirSync, unlinkSync, writeFileSync } from "node:fs";
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
  return { lockId, fence, until: now + TTL + GRACE };
});

const byId = (client, transaction, lockId) =>
  transaction.get(client.collection("locks").where("lockId", "==", lockId).limit(1));

const isHeld = (lock) => lock !== undefined && lock.get("expiresAtMs") > Date.now() - GRACE;

const extend = (client, lockId) => client.runTransaction(async (transaction) => {
  const [lock] = (await byId(client, transaction, lockId)).docs;
  if (!isHeld(lock)) return false;
  transaction.update(lock.ref, { expiresAtMs: Date.now() + TTL });
  return true;
});

const release = (client, lockId) => client.runTransaction(async (transaction) => {
  const [lock] = (await byId(client, transaction, lockId)).docs;
  if (!isHeld(lock)) return false;
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

const flaw = (text) => appendFileSync(`${directory}/flaws`, `${text}\n`);

// Creates the file of a hold, and returns its name.
const enter = (key, grant) => {
  const name = `${key}~exclusive mode~${grant.fence}~${grant.until}`;
  writeFileSync(`${directory}/${name}`, "");
  const now = Date.now();
  const beside = readdirSync(directory).filter((other) => {
    const [text, , , until] = other.split("~");
    return text === key && other !== name && Number(until) > now;
  });
  if (beside.length > 0) flaw(`node in ${name} is beside ${beside}`);
  appendFileSync(`${directory}/fences`, `${key}~exclusive mode~${grant.fence}~node\n`);
  return name;
};

async function contend() {
  const client = new Firestore({ projectId: "p" });
  while (Date.now() < end && !existsSync(`${directory}/stop`)) {
    const key = keys[below(keys.length)];
    const grant = await again(() => acquire(client, key));
    if (grant === undefined) {
      await sleep(below(20));
      continue;
    }
    const name = enter(key, grant);
    await sleep(below(5));
    if (below(4) === 0 && !await again(() => extend(client, grant.lockId))) flaw(`node lost ${name}`);
    unlinkSync(`${directory}/${name}`);
    if (!await again(() => release(client, grant.lockId))) flaw(`node lost ${name} at the end`);
    await sleep(below(10));
  }
}

await Promise.all(Array.from({ length: clients }, contend));
