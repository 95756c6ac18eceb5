// Increments one document in transactions of independent clients.
//
// Arguments: the number of clients, and of increments per client. Prints the final count and the number
// of attempts.
import { Firestore } from "@google-cloud/firestore";

const [clients, rounds] = process.argv.slice(2).map(Number);
const connect = () => new Firestore({ projectId: "contention" });

let attempts = 0;
async function count(client) {
  const counter = client.doc("counters/one");
  for (let round = 0; round < rounds; round++) {
    await client.runTransaction(async (transaction) => {
      attempts += 1;
      const read = await transaction.get(counter);
      transaction.set(counter, { count: (read.get("count") ?? 0) + 1 });
    }, { maxAttempts: 50 });
  }
}

const all = Array.from({ length: clients }, connect);
await Promise.all(all.map(count));
const end = await connect().doc("counters/one").get();
console.log(JSON.stringify({ count: end.get("count"), attempts }));
