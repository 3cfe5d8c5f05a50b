// The benches' client of the JavaScript client. It takes the orders of tests/bench/client.c, whose
// first comment says what they are, and answers as that one does; it does not offer.
// usage: bench_core.js URL NAME [stock]
"use strict";

const nats = require("nats");

const WAIT_MS = 30000; // what lasts longer is an error
const PARKED_MS = 600000; // of what is to be there, and not to happen

const [servers, name, mode] = process.argv.slice(2);
const options = {
  servers,
  name,
  // It makes a stack trace of every request, for better errors; who measures turns that off.
  noAsyncTraces: true,
  maxReconnectAttempts: -1,
};
// The same in all clients.
if (mode !== "stock") Object.assign(options, { reconnectTimeWait: 10, reconnectJitter: 0 });

let nc;
let received = 0;
let targets = [];
const seconds = () => Number(process.hrtime.bigint()) / 1e9;

function summarize(latencies) {
  latencies.sort((a, b) => a - b);
  return [0.5, 0.99, 0.999].map((p) => latencies[Math.floor(p * latencies.length)]);
}

async function subscribe({ subject, subjects }) {
  for (const sub of targets) sub.unsubscribe();
  received = 0;
  targets = [];
  const callback = (err) => {
    if (err) throw err;
    received++;
  };
  for (let i = 0; i < subjects; i++) targets.push(nc.subscribe(`${subject}.${i}`, { callback }));
  await nc.flush();
  return [targets.length];
}

async function publish({ count, value, subject, data }) {
  const latencies = [];
  const begun = seconds();
  let before = begun;
  for (let batch = 0; batch < count / value; batch++) {
    for (let i = 0; i < value; i++) nc.publish(subject, data);
    await nc.flush();
    const after = seconds();
    latencies.push(after - before);
    before = after;
  }
  return [count, before - begun, ...summarize(latencies)];
}

async function request({ count, value, subject, data }) {
  const latencies = [];
  const begun = seconds();
  let sent = 0;
  async function lane() {
    while (sent < count) {
      sent++;
      const before = seconds();
      await nc.request(subject, data, { timeout: WAIT_MS });
      latencies.push(seconds() - before);
    }
  }
  await Promise.all(Array.from({ length: value }, lane));
  return [count, seconds() - begun, ...summarize(latencies)];
}

async function answer({ subject, subjects }) {
  const callback = (err, m) => err || m.respond(m.data);
  for (let i = 0; i < subjects; i++) nc.subscribe(`${subject}.${i}`, { callback });
  await nc.flush();
  return [subjects];
}

async function connect({ count }) {
  for (let i = 0; i < count; i++) await nats.connect(options);
  return [count];
}

async function park({ count, subject }) {
  for (let i = 0; i < count; i++) nc.request(subject, "", { timeout: PARKED_MS }).catch(() => {});
  await nc.flush();
  return [count];
}

async function timers({ count }) {
  for (let i = 0; i < count; i++) setInterval(() => {}, PARKED_MS);
  return [count];
}

const operations = {
  park,
  timers,
  subscribe,
  publish,
  request,
  answer,
  connect,
  received: async () => [received],
};

async function perform(m) {
  const end = m.data.indexOf(10);
  const text = Buffer.from(m.data.subarray(0, end)).toString();
  const [name, count, value, subject, subjects] = text.split(" ");
  const order = {
    count: Number(count),
    value: Number(value),
    subject,
    subjects: Number(subjects),
    data: m.data.slice(end + 1),
  };
  try {
    const [done, ...times] = await operations[name](order);
    return [done, ...[0, 1, 2, 3].map((i) => (times[i] || 0).toFixed(9))].join(" ");
  } catch (err) {
    return `error: ${name}: ${err.message}`;
  }
}

async function main() {
  nc = await nats.connect(options);
  for await (const m of nc.subscribe(`bench.${name}`)) m.respond(await perform(m));
}

main();
