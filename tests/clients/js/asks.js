// Asks a ClickHouse server over HTTP with @clickhouse/client and prints the answers.
//
//   node asks.js URL FILE
//
// FILE holds a JSON array of statements. Each answer is one line: a JSON array of rows, each an
// array of values as they stand in the answer's JSON.
import { readFileSync } from "node:fs";
import { createClient } from "@clickhouse/client";

const [url, file] = process.argv.slice(2);
const client = createClient({ url, request_timeout: 60_000, compression: { response: true } });
try {
  for (const query of JSON.parse(readFileSync(file, "utf8"))) {
    const answer = await client.query({ query, format: "JSONCompactEachRow" });
    console.log(JSON.stringify(await answer.json()));
  }
} finally {
  await client.close();
}
