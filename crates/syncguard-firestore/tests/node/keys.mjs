// Reports which documents the TypeScript SyncGuard uses for keys, or why it fails.
//
// Argument: a JSON array of keys. For each it does what an acquire of that client does: it names the lock
// and the counter with Google's client, and reads and writes both in a transaction. Prints a JSON array
// of `{ key, lock, fence }` with the paths of the documents, or `{ key, refused }`, by "client" or by
// "service".
import { readFileSync } from "node:fs";
import { Firestore } from "@google-cloud/firestore";

const INVALID_ARGUMENT = 3;
const keys = JSON.parse(readFileSync(process.argv[2], "utf8"));
const client = new Firestore({ projectId: "p" });

const acquire = async (key) => {
  let lock, counter;
  try {
    lock = client.collection("locks").doc(key);
    counter = client.collection("fence_counters").doc(`fence:${key}`);
  } catch {
    return { key, refused: "client" };
  }
  try {
    await client.getAll(lock, counter);
  } catch (error) {
    if (error.code !== INVALID_ARGUMENT) throw error;
    return { key, refused: "service" };
  }
  await client.runTransaction(async (transaction) => {
    await transaction.getAll(lock, counter);
    const expiresAtMs = Date.now() + 600000;
    const fence = "000000000000001";
    const lockId = Buffer.from(key).toString("base64url").slice(0, 22).padEnd(22, "0");
    transaction.set(lock, { lockId, expiresAtMs, acquiredAtMs: Date.now(), key, fence });
    transaction.set(counter, { fence, keyDebug: key });
  });
  return { key, lock: lock.path, fence: counter.path };
};

const lines = (await Promise.all(keys.map(acquire))).map((entry) => JSON.stringify(entry));
console.log(`[\n${lines.join(",\n")}\n]`);
