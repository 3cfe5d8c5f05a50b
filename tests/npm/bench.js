// The bench of JetStream for the JavaScript client. It takes orders as requests on the subject
// "bench.npm": "OP COUNT SIZE SUBJECT STREAM CONSUMER", and answers when it is done: the seconds
// that it took, and for single publishes the median and the 99th percentile, in seconds, too.
// usage: bench.js URL
"use strict";

const nats = require("nats");

const LANES = 256; // publishes at a time: with more of them this client is slower
const BATCH = 256; // messages of one pull; the same in all clients
const WAIT_MS = 30000; // what lasts longer is an error

let nc, js;
const seconds = () => Number(process.hrtime.bigint()) / 1e9;

// One publish after the other, each with its acknowledgement.
async function single({ count, data, subject }) {
  const latencies = [];
  const begun = seconds();
  let before = begun;
  for (let i = 0; i < count; i++) {
    await js.publish(subject, data);
    const after = seconds();
    latencies.push(after - before);
    before = after;
  }
  latencies.sort((a, b) => a - b);
  const part = (p) => latencies[Math.floor(p * count)];
  return [before - begun, part(0.5), part(0.99)];
}

// The client has no pipeline of its own, but promises.
async function pipelined({ count, data, subject }) {
  const begun = seconds();
  let sent = 0;
  async function lane() {
    while (sent < count) {
      sent++;
      await js.publish(subject, data);
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane));
  return [seconds() - begun];
}

async function fetch({ count, stream, consumer }) {
  const begun = seconds();
  const reader = await js.consumers.get(stream, consumer);
  let taken = 0;
  while (taken < count) {
    const wanted = Math.min(BATCH, count - taken);
    const batch = await reader.fetch({ max_messages: wanted, expires: WAIT_MS });
    for await (const m of batch) {
      m.ack();
      taken++;
    }
  }
  await nc.flush();
  return [seconds() - begun];
}

async function consume({ count, stream, consumer }) {
  const begun = seconds();
  const reader = await js.consumers.get(stream, consumer);
  const messages = await reader.consume({ max_messages: BATCH });
  let taken = 0;
  for await (const m of messages) {
    m.ack();
    if (++taken === count) messages.stop(); // and with it the loop
  }
  await nc.flush();
  return [seconds() - begun];
}

const operations = { single, pipelined, fetch, consume };

async function perform(text) {
  const [name, count, size, subject, stream, consumer] = text.split(" ");
  const operation = operations[name];
  if (!operation) return "error: there is no such operation";
  const order = {
    count: Number(count),
    data: Buffer.alloc(Number(size), "x"),
    subject,
    stream,
    consumer,
  };
  try {
    const [took, median = 0, p99 = 0] = await operation(order);
    return [took, median, p99].map((x) => x.toFixed(9)).join(" ");
  } catch (err) {
    return `error: ${err.message}`;
  }
}

async function main() {
  // It makes a stack trace of every request, for better errors; who measures turns that off.
  nc = await nats.connect({ servers: process.argv[2], name: "npm", noAsyncTraces: true });
  js = nc.jetstream({ timeout: WAIT_MS });
  for await (const m of nc.subscribe("bench.npm")) m.respond(await perform(m.string()));
}

main();
