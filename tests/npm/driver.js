// A stock JavaScript client of NATS as a partner of the tests. It is driven over its standard
// streams, one JSON object a line:
//
//   in   {"id": 1, "op": "kv_put", "args": {"bucket": "B", "key": "k", "value": "v"}}
//   out  {"id": 1, "ok": 7}  or  {"id": 1, "err": {"code": ..., "message": ...}}
//   out  {"event": "watch", "watch": 3, "entry": {...}}, {"event": "status", "type": "reconnect"},
//        {"event": "closed", "error": "..."}: the client gave its connection up
//
// Strings are bytes on both sides: the streams are read and written as latin1, so that a character
// here is a byte there. Payloads stay as they are; names are UTF-8.
// It ends when its standard input does. Driven by tests/support/npm_client.lua.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const nats = require("nats");

const REQUEST_MS = 5000; // of a request to the server
const CLOSE_MS = 2000; // for the server to hear that this client goes
const UNACKED_MAX = 100000; // messages that were handed over and wait for their acknowledgement

let nc; // the connection, when there is one
let js, jsm;
const buckets = new Map();
const consumers = new Map();
const unacked = new Map();
const watches = new Map();
let lastHandle = 0;

// ---- the lines ----

const toBytes = (text) => Buffer.from(text ?? "", "latin1");
const fromBytes = (bytes) => Buffer.from(bytes).toString("latin1");
// The names inside of any value, between the bytes of a line and the text of the client.
const toText = (x) => convert(x, (s) => Buffer.from(s, "latin1").toString("utf8"));
const fromText = (x) => convert(x, (s) => Buffer.from(s, "utf8").toString("latin1"));

function convert(x, f) {
  if (typeof x === "string") return f(x);
  if (Array.isArray(x)) return x.map((item) => convert(item, f));
  if (x instanceof Date) return x.getTime() / 1000;
  if (x !== null && typeof x === "object") {
    return Object.fromEntries(
      Object.entries(x).map(([key, value]) => [f(key), convert(value, f)])
    );
  }
  return x;
}

function say(object) {
  process.stdout.write(JSON.stringify(object) + "\n", "latin1");
}

function describe(err) {
  const api = typeof err.api_error === "object" ? err.api_error : undefined;
  return fromText({
    code: String(api?.err_code ?? err.code ?? err.name ?? "error"),
    message: String(err.message ?? err),
  });
}

class Misuse extends Error {
  constructor(message) {
    super(message);
    this.code = "MISUSE";
  }
}

function held(map, key, what) {
  const value = map.get(key);
  if (value === undefined) throw new Misuse(`there is no ${what} ${key}`);
  return value;
}

// ---- values as a test sees them ----

function plainHeaders(headers) {
  if (!headers) return undefined;
  return Object.fromEntries(headers.keys().map((key) => [key, headers.values(key)]));
}

function plainEntry(entry) {
  return {
    ...fromText({ bucket: entry.bucket, key: entry.key, operation: entry.operation }),
    value: fromBytes(entry.value),
    revision: entry.revision,
    created: entry.created.getTime() / 1000,
    delta: entry.delta,
  };
}

// Answers requests with what they said.
async function echo(subscription) {
  for await (const m of subscription) m.respond(m.data);
}

// A message of a consumer; `handle` is what the op "ack" takes.
function plainMessage(m) {
  if (unacked.size >= UNACKED_MAX) {
    throw new Misuse(`${UNACKED_MAX} messages wait for their acknowledgement; none was given`);
  }
  const handle = ++lastHandle;
  unacked.set(handle, m);
  return {
    handle,
    ...fromText({ subject: m.subject, headers: plainHeaders(m.headers) }),
    data: fromBytes(m.data),
    seq: m.seq,
    deliveries: m.info.redeliveryCount,
    pending: m.info.pending,
  };
}

function makeHeaders(table) {
  const headers = nats.headers();
  for (const [key, values] of Object.entries(toText(table ?? {}))) {
    for (const value of [values].flat()) headers.append(key, String(value));
  }
  return headers;
}

// ---- operations ----

async function bucketOf(args) {
  const name = toText(args.bucket);
  if (!buckets.has(name)) {
    buckets.set(name, await js.views.kv(name, { bindOnly: true, timeout: REQUEST_MS }));
  }
  return buckets.get(name);
}

async function consumerOf(args) {
  const id = `${args.stream} ${args.consumer}`;
  if (!consumers.has(id)) {
    consumers.set(id, await js.consumers.get(toText(args.stream), toText(args.consumer)));
  }
  return consumers.get(id);
}

async function collect(iterator, plain) {
  const list = [];
  for await (const item of iterator) list.push(plain(item));
  return list;
}

async function tellStatus(connection) {
  for await (const status of connection.status()) {
    const type = status.type;
    if (type === "pingTimer") continue;
    say({ event: "status", ...fromText({ type, data: String(status.data ?? "") }) });
  }
}

async function tellWatch(id, iterator) {
  try {
    for await (const entry of iterator) say({ event: "watch", watch: id, entry: plainEntry(entry) });
    say({ event: "watch", watch: id, ended: true });
  } catch (err) {
    say({ event: "watch", watch: id, ended: true, err: describe(err) });
  }
  watches.delete(id);
}

async function close() {
  const going = nc;
  nc = js = jsm = undefined;
  for (const map of [buckets, consumers, unacked, watches]) map.clear();
  if (!going) return;
  // A drain waits for the server, which may be dead.
  const limit = new Promise((done) => setTimeout(done, CLOSE_MS).unref());
  await Promise.race([going.drain().catch(() => {}), limit]);
  await going.close();
}

const core = {
  // creds_file: read once, as the client's documentation shows it.
  async connect({ creds_file, ...args }) {
    if (nc) throw new Misuse("it is connected already");
    const login = creds_file
      ? { authenticator: nats.credsAuthenticator(fs.readFileSync(toText(creds_file))) }
      : {};
    nc = await nats.connect({
      name: "npm",
      timeout: REQUEST_MS,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 100,
      reconnectJitter: 50,
      ...toText(args),
      ...login,
    });
    const connection = nc;
    nc.closed().then((err) => {
      if (connection !== nc) return; // it was told to
      say({ event: "closed", ...fromText({ error: String(err?.message ?? "") }) });
    });
    js = nc.jetstream({ timeout: REQUEST_MS });
    jsm = await nc.jetstreamManager({ timeout: REQUEST_MS, checkAPI: false });
    tellStatus(nc);
    return fromText({ server: nc.getServer(), version: nc.info.version });
  },
  async disconnect() {
    await close();
    return true;
  },
  async flush() {
    await nc.flush();
    return true;
  },
  async echo(args) {
    echo(nc.subscribe(toText(args.subject)));
    await nc.flush();
    return true;
  },
  async versions() {
    return { client: require("nats/package.json").version, node: process.version };
  },
};

const streams = {
  stream_add: async (args) => fromText(await jsm.streams.add(toText(args.config))),
  stream_info: async (args) => fromText(await jsm.streams.info(toText(args.stream))),
  stream_delete: async (args) => jsm.streams.delete(toText(args.stream)),
  async publish(args) {
    const options = toText({ msgID: args.msg_id, expect: args.expect, timeout: args.timeout_ms });
    for (const key of Object.keys(options)) options[key] ?? delete options[key];
    if (args.headers) options.headers = makeHeaders(args.headers);
    const ack = await js.publish(toText(args.subject), toBytes(args.data), options);
    return fromText({ stream: ack.stream, seq: ack.seq, duplicate: ack.duplicate });
  },
  async message(args) {
    const m = await jsm.streams.getMessage(toText(args.stream), toText(args.query));
    return {
      ...fromText({ subject: m.subject, headers: plainHeaders(m.header) }),
      data: fromBytes(m.data),
      seq: m.seq,
    };
  },
};

const ACKS = new Map(
  Object.entries({
    ack: (m) => m.ack(),
    nak: (m, args) => m.nak(args.delay_ms),
    term: (m) => m.term(),
    working: (m) => m.working(),
    ack_sync: (m) => m.ackAck({ timeout: REQUEST_MS }),
  })
);

const pulling = {
  consumer_add: async (args) =>
    fromText(await jsm.consumers.add(toText(args.stream), toText(args.config))),
  consumer_info: async (args) =>
    fromText(await jsm.consumers.info(toText(args.stream), toText(args.consumer))),
  consumer_delete: async (args) =>
    jsm.consumers.delete(toText(args.stream), toText(args.consumer)),
  consumers: async (args) => collect(jsm.consumers.list(toText(args.stream)), fromText),
  // null: nothing came in time.
  async next(args) {
    const consumer = await consumerOf(args);
    const m = await consumer.next({ expires: args.expires_ms ?? REQUEST_MS });
    return m ? plainMessage(m) : null;
  },
  async fetch(args) {
    const consumer = await consumerOf(args);
    const options = { max_messages: args.n, expires: args.expires_ms ?? REQUEST_MS };
    return collect(await consumer.fetch(options), plainMessage);
  },
  // kind: ack, nak, term, working, ack_sync
  async ack(args) {
    const m = held(unacked, args.handle, "message");
    const act = held(ACKS, args.kind ?? "ack", "acknowledgement");
    const result = await act(m, args);
    if (args.kind !== "working") unacked.delete(args.handle);
    return result ?? true;
  },
};

const INCLUDE = {
  last: nats.KvWatchInclude.LastValue,
  history: nats.KvWatchInclude.AllHistory,
  updates: nats.KvWatchInclude.UpdatesOnly,
};

const kv = {
  async kv_create(args) {
    const name = toText(args.bucket);
    const options = { timeout: REQUEST_MS, ...toText(args.options ?? {}) };
    buckets.set(name, await js.views.kv(name, options));
    return true;
  },
  async kv_bind(args) {
    await (await bucketOf(args)).status(); // the client itself does not look whether it is there
    return true;
  },
  async kv_destroy(args) {
    const bucket = await bucketOf(args);
    buckets.delete(toText(args.bucket));
    return bucket.destroy();
  },
  async kv_status(args) {
    const s = await (await bucketOf(args)).status();
    const { bucket, values, history, ttl, replicas, storage } = s;
    return fromText({ bucket, values, history, ttl, replicas, storage });
  },
  // null: there is no such key.
  async kv_get(args) {
    const options = args.revision === undefined ? undefined : { revision: args.revision };
    const entry = await (await bucketOf(args)).get(toText(args.key), options);
    return entry ? plainEntry(entry) : null;
  },
  kv_put: async (args) => (await bucketOf(args)).put(toText(args.key), toBytes(args.value)),
  kv_create_key: async (args) =>
    (await bucketOf(args)).create(toText(args.key), toBytes(args.value)),
  kv_update: async (args) =>
    (await bucketOf(args)).update(toText(args.key), toBytes(args.value), args.revision),
  async kv_delete(args) {
    await (await bucketOf(args)).delete(toText(args.key));
    return true;
  },
  async kv_purge(args) {
    await (await bucketOf(args)).purge(toText(args.key));
    return true;
  },
  async kv_keys(args) {
    return collect(await (await bucketOf(args)).keys(toText(args.filter)), fromText);
  },
  async kv_history(args) {
    return collect(await (await bucketOf(args)).history({ key: toText(args.key) }), plainEntry);
  },
  // The entries come as events. include: last, history, updates.
  async kv_watch(args) {
    const bucket = await bucketOf(args);
    const id = ++lastHandle;
    const options = {
      key: toText(args.key),
      ignoreDeletes: args.ignore_deletes,
      resumeFromRevision: args.resume_from,
      include: INCLUDE[args.include ?? "last"],
    };
    options.initializedFn = () => say({ event: "watch", watch: id, initialized: true });
    const iterator = await bucket.watch(options);
    watches.set(id, iterator);
    tellWatch(id, iterator);
    return id;
  },
  async kv_unwatch(args) {
    held(watches, args.watch, "watch").stop();
    return true;
  },
};

const operations = new Map(Object.entries({ ...core, ...streams, ...pulling, ...kv }));
const WITHOUT_LINK = new Set(["connect", "disconnect", "versions"]);

async function perform(line) {
  let id;
  try {
    const request = JSON.parse(line);
    id = request.id;
    const operation = held(operations, request.op, "operation");
    if (!nc && !WITHOUT_LINK.has(request.op)) throw new Misuse("it is not connected");
    say({ id, ok: (await operation(request.args ?? {})) ?? null });
  } catch (err) {
    say({ id, err: describe(err) });
  }
}

async function main() {
  process.stdin.setEncoding("latin1");
  const lines = readline.createInterface({ input: process.stdin, crlfDelay: Infinity });
  lines.on("line", perform);
  lines.on("close", async () => {
    await close();
    process.exit(0);
  });
  process.on("SIGTERM", () => lines.close());
  say({ event: "ready" });
}

main();
