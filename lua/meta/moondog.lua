---@meta moondog
-- The Lua API, for the Lua language server and for people. Times are in seconds. A function that can fail
-- in operation returns nil and an error object; a misuse raises an error that names the script's line.
--
-- The standard library is there without what could take the runtime down: ffi, bytecode, os.exit, newproxy,
-- package.loadlib, most of debug and jit. print() writes to the log. Modules beside the script are found. math.random()
-- is seeded anew in each process and generation.

---@class moondog
---@field version string
---@field state table plain data of the script: nil, booleans, numbers, strings, and tables of these. It crosses
---a reload: what the generation before has in it comes over what the new top level declares, key by key; only
---`version` stays as the new one declares it. What cannot cross (functions, userdata, metatables, cycles, more
---than --state) is named, and the reload refused. What the generation before still handles afterwards, such as messages
---of a consumer that were on their way, changes its own copy only.
---@field log moondog.log
---@field metrics moondog.metrics
local moondog = {}

---@class moondog.error
---@field code string stable identifier: "timeout", "no_responders", "disconnected", "closed", "pending_full", ...
---@field class "none"|"auth"|"network"|"timeout"|"stale"|"tls"|"limit"|"protocol"
---@field message string one sentence; also tostring(err)

---What the reconnect policy decides by. A policy, and a function that returns a token, cannot wait. After five
---failures in a row of a function, its failures are logged once a second.
---@class moondog.attempt
---@field attempt integer 1, 2, ... of this outage
---@field error moondog.error
---@field class string the error's class
---@field outage number age of the outage
---@field server string that is asked next; the one that was lost, when library is true
---@field connection string name of the connection
---@field library boolean true: the library's own next attempt; false: a fresh link

---What hooks are told about a connection.
---@class moondog.info
---@field server string
---@field fresh boolean a link made by the watchdog; false: the library has the old one back
---@field outage number how long the connection was down
---@field links integer links made so far
---@field reason? string why a fresh link was needed: "start", "closed", "probe", "hung", ...; see status()
---@field answered? boolean only in the hook probe

---@class moondog.hooks
---@field connected? fun(conn: moondog.connection, info: moondog.info) the first link is up
---@field reconnected? fun(conn: moondog.connection, info: moondog.info)
---@field disconnected? fun(conn: moondog.connection, err: moondog.error) the library reconnects by itself
---@field closed? fun(conn: moondog.connection, err: moondog.error) the link is gone; a fresh one is made
---@field error? fun(conn: moondog.connection, err: moondog.error) the link stays
---@field lame_duck? fun(conn: moondog.connection, info: moondog.info)
---@field discovered? fun(conn: moondog.connection, info: moondog.info)
---@field probe? fun(conn: moondog.connection, info: moondog.info) a probe was missed, or answered again

---The files are read for each fresh link. Where the library cannot reconnect and they have changed, or it fails by
---them, there is one at once.
---@class moondog.tls
---@field ca? string file
---@field cert? string file; goes with key
---@field key? string file
---@field hostname? string that the certificate has to name
---@field insecure? boolean do not verify the server

---@class moondog.watchdog
---@field interval? number between audits of the real status; default 30
---@field timeout? number for a dial; default 15
---@field probe? number between round trips through the server; default 5; 0: none
---@field probe_timeout? number for a probe's answer; default 2.5
---@field reconnecting? number how long the library may try by itself; default 60
---@field lame_duck? number a server that says it will go is left for another one of the list that can be reached,
---after a random part of this time; default 5; 0: when it sends its clients away

---@class moondog.connect_options
---@field name? string default "default"
---@field servers? string|string[] default $NATS_URL, else nats://127.0.0.1:4222
---@field user? string
---@field password? string
---@field token? string|fun(): string a function is asked before each dial
---@field creds? string file, read again at each dial
---@field nkey_seed_file? string file, read again at each dial
---@field tls? moondog.tls|boolean
---@field inbox_prefix? string default "_INBOX"
---@field no_echo? boolean do not receive what this connection publishes; its probes are PING and PONG then
---@field ping_interval? number default 20
---@field ignore_discovered? boolean use the servers of the list only
---@field library_reconnect? boolean default true; false: every loss is answered with a fresh link
---@field reconnect? moondog.backoff|fun(ctx: moondog.attempt): number
---@field watchdog? moondog.watchdog
---@field pending? { bytes: integer } publishes kept while they cannot be sent; default 8 MiB
---@field on? moondog.hooks
---@field required? boolean readiness waits for it; default true

---Declares a connection. It is dialled when the script has been loaded.
---
---At a reload a connection is found again by its name, and its link goes on with the new hooks, policy and handlers;
---subscriptions are found again by subject, queue and max. Options that need a new link (servers, credentials, TLS,
---...): that one is dialled first, while the old link serves the new handlers; when it is up and has all
---subscriptions, the old one is drained. No message is missed. In the moment in which both links have a subscription,
---a message may come twice, and messages of the two links may overtake each other; with a queue group none comes
---twice. When the new link cannot be made, the old one goes on.
---@param options? moondog.connect_options
---@return moondog.connection
function moondog.connect(options) end

---@class moondog.backoff_options
---@field base? number default 0.05
---@field cap? number default 5
---@field factor? number default 2
---@field auth_base? number the step after auth errors; default 0.25
---@field jitter? "none"|"full"|"equal"|"decorrelated" default "full"

---A policy is a value: call it with a context to try it. ctx.random in [0, 1) makes it repeatable.
---@class moondog.backoff
---@operator call(table): number

---@param options? moondog.backoff_options
---@return moondog.backoff
function moondog.backoff(options) end

---Runs f(...) as a task of its own, soon.
---@param f function
function moondog.spawn(f, ...) end

---Waits. Everything else goes on.
---@param seconds number
---@return true? ok
---@return moondog.error? err
function moondog.sleep(seconds) end

---Runs f every so many seconds. A tick is left out while the last run still waits.
---@param seconds number
---@param f function
---@return moondog.timer
function moondog.every(seconds, f) end

---Runs f once.
---@param seconds number
---@param f function
---@return moondog.timer
function moondog.after(seconds, f) end

---Seconds of a clock that never jumps.
---@return number
function moondog.now() end

---Runs f when the script has been put to work, before its first message; after a reload with the state that has
---come over, and with the `version` that it had, so that it can be brought up to date. What f subscribes before it
---first waits takes over what the generation before had.
---@param f fun(state: table, old_version?: any)
function moondog.on_start(f) end

---Runs f when the script is taken out of work: at the end, or when another generation has taken over. What it
---writes to moondog.state then comes too late.
---@param f function
function moondog.on_unload(f) end

---Runs f(data) when the host program, one that embeds moondog (md_emit() in moondog.h), tells the event. Functions for
---the same event run in the order in which they were given; each gets tables of its own. It may wait. May be called at
---any time; the functions end with this generation of the script. `moondog run` tells no events.
---@param event string
---@param f fun(data: any)
function moondog.on_event(event, f) end

---Loads the script again and puts it to work, as SIGHUP does. Waits. After a reload the generation that was
---replaced finishes what it has begun (--retire); then what still waits gets an error with the code "replaced".
---@return integer? generation number of the new one
---@return moondog.error? err the script goes on as it was
function moondog.reload() end

---@class moondog.log
local log = {}
---@param text any
---@param fields? table<string, any>
function log.debug(text, fields) end
---@param text any
---@param fields? table<string, any>
function log.info(text, fields) end
---@param text any
---@param fields? table<string, any>
function log.warn(text, fields) end
---@param text any
---@param fields? table<string, any>
function log.error(text, fields) end

---The least important records that are written to the log; sets it first when a name is given.
---@param name? "debug"|"info"|"warn"|"error"|"off"
---@return string name
function log.level(name) end

---Metrics of the script, on the page /metrics (--http). They belong to the runtime: a reload keeps what they have
---counted, and a metric goes when the script does not declare it any more. A name keeps its type. All of them together
---have 1,000 series at most (a name with one combination of label values is one): a change that would make another is
---refused with nil, err (code "too_many_series"), counted in moondog_metric_refused_total, and logged once a minute.
---@class moondog.metrics
local metrics = {}

---@class moondog.metric_options
---@field help? string
---@field labels? string[] names: then each change gives exactly these; otherwise any

---A number that only grows. Its name ends in "_total", which is added when it does not.
---@param name string letters, digits, _ and :
---@param options? moondog.metric_options
---@return moondog.metric
function metrics.counter(name, options) end

---A number that goes up and down.
---@param name string
---@param options? moondog.metric_options
---@return moondog.metric
function metrics.gauge(name, options) end

---@class moondog.histogram_options
---@field help? string
---@field labels? string[]
---@field buckets? number[] upper bounds, ascending, 12 at most; default 0.005 to 10, for seconds

---@param name string
---@param options? moondog.histogram_options
---@return moondog.metric
function metrics.histogram(name, options) end

---@class moondog.metric
local metric = {}
---Of a counter or a gauge.
---@param n? number default 1
---@param labels? table<string, string|number|boolean>
---@return true? ok
---@return moondog.error? err
function metric:add(n, labels) end
---Of a gauge.
---@param value number
---@param labels? table<string, string|number|boolean>
---@return true? ok
---@return moondog.error? err
function metric:set(value, labels) end
---Of a histogram.
---@param value number
---@param labels? table<string, string|number|boolean>
---@return true? ok
---@return moondog.error? err
function metric:observe(value, labels) end

---@class moondog.outbox_options
---@field path string of the file, in the working directory when it is relative: one outbox, and one process, for each.
---Made with the mode 0600 when there is none
---@field connection moondog.connection that it forwards with
---@field max_bytes? integer of the messages in it, each with some 128 bytes more; default 1 GiB. The file may be larger
---@field ttl? number a message that waits for longer is removed; default: never
---@field fsync? boolean true (default): what was published survives a loss of power; false: the end of the process
---@field policies? table<string, "all"|"latest"|"drop"> by subject, with wildcards; the most specific counts; default
---"all". "latest": a message takes the place of one with its subject that was not sent yet, at the end of the order.
---"drop": it is never written, and sent when nothing waits and the link is up; otherwise nil, err (code "dropped")
---@field rate? number messages a second that are forwarded at most; default: any
---@field window? integer that may be on their way at a time; default 256, 1024 at most

---Declares an outbox: a message is on the disk when publish returns, and comes to JetStream once and in the order of
---the publishes, whatever happens to the link, the server or this process. It belongs to the runtime: a reload that
---declares the same path gets the same one, with the new options; one that is not declared any more is closed, and
---what waits stays in the file.
---
---A message that a stream refuses for good is set aside, with the reason, for `moondog outbox FILE`; what may pass
---(no link, no stream, a full stream, no leader) is waited for. Messages for different streams are not on their way
---together, so let one outbox publish to one stream when it has to be fast. The user has to be allowed to ask
---$JS.API.STREAM.NAMES, INFO and MSG.GET.
---
---A message that may have been stored already, longer ago than the stream's duplicate_window, is looked for in the
---stream before it is sent again: from the last acknowledged message on, through 100,000 messages of its subject; when
---there are more it is set aside. A stream that has removed it meanwhile (a work queue, a limit) gets it a second time.
---The duplicate_window of a replicated stream has to be longer than its servers take to agree on a leader: a minute or
---more (two are NATS' default). What they had taken before is stored when they have one; a short window is over then.
---@param options moondog.outbox_options
---@return moondog.outbox
function moondog.outbox(options) end

---@class moondog.outbox
local outbox = {}

---@class moondog.outbox_publish_options
---@field headers? table<string, string|string[]>
---@field msg_id? string its Nats-Msg-Id; default: one that is nobody else's. One that waits in the file already is
---there once; one that the stream knows within its duplicate_window, too: publishing again is harmless
---@field ttl? number instead of the outbox's own

---Waits until the message is on the disk. Errors have the codes "outbox_full", "disk_full", "outbox_locked" (another
---process has the file), "outbox_corrupt", "outbox_file", "too_many" (wait to be written), "too_large",
---"invalid_subject", "set_aside" (the one with this msg_id was refused for good), "dropped", "closed", "no_memory".
---@param subject string
---@param data? string|number
---@param options? moondog.outbox_publish_options
---@return true? ok
---@return moondog.error? err
function outbox:publish(subject, data, options) end

---Waits until all that was published so far is acknowledged by a stream, or set aside, or expired.
---@param timeout? number default 30
---@return true? ok
---@return moondog.error? err
function outbox:flush(timeout) end

---path, state ("opening", "idle", "forwarding", "looking at the stream", "waiting for the file", "waiting for link",
---"waiting for the stream", "closed"), error (why it waits), waiting, bytes and set_aside (in the file), oldest (age of
---the first one that waits), and since the start of the process: forwarded, duplicates (of these, that the stream had
---already), dropped, expired, refused (publishes that failed). Nothing is known of the file while it is "opening".
---@return table status
function outbox:status() end

---@class moondog.timer
local timer = {}
function timer:cancel() end

---@class moondog.connection
local connection = {}

---@class moondog.subscribe_options
---@field queue? string queue group
---@field max? integer ends after so many messages
---@field pending? { messages: integer, bytes: integer } default 524288 and 64 MiB; -1: no limit; see below
---@field name? string for logs; default: the subject

---At its pending limit a subscription drops the newest message, counts it, and reports once per burst. Its bytes are
---those of subject, reply, headers and data.
---@param subject string
---@param handler fun(msg: moondog.message)
---@param options? moondog.subscribe_options
---@return moondog.subscription? sub
---@return moondog.error? err
function connection:subscribe(subject, handler, options) end

---True when the message was taken: it is sent in order, also after a fresh link. Otherwise nil, err with the code
---"pending_full", "too_large", "invalid_subject", "closed" or "no_memory".
---@param subject string
---@param data? string|number
---@param options? { headers: table<string, string|string[]>, reply: string }
---@return true? ok
---@return moondog.error? err
function connection:publish(subject, data, options) end

---Waits for the answer. Fails at once when nobody is subscribed, or when there is no link.
---@param subject string
---@param data? string|number
---@param options? { timeout: number, headers: table<string, string|string[]> } timeout: default 2
---@return moondog.message? reply
---@return moondog.error? err
function connection:request(subject, data, options) end

---Waits until the server has received everything so far.
---@param timeout? number default 1
---@return true? ok
---@return moondog.error? err
function connection:flush(timeout) end

---name, state ("idle", "dialing", "up", "reconnecting", "closed", "stopped"), ready, attempt, outage, links,
---subscriptions, server, error, and reason, why the newest link was lost or not made: "start", "closed", "dial_failed",
---"dial_timeout", "reconnecting", "probe", "hung", "requested", "lame_duck"; "none" before the first.
---@return table status
function connection:status() end

---links, dials, dials_failed, reconnects, abandoned, hanging, in_msgs, in_bytes, out_msgs, out_bytes,
---pending_bytes, pending_dropped, publish_lost, dropped.
---@return table stats
function connection:stats() end

---A completely fresh link, now.
---@return true? ok
---@return moondog.error? err
function connection:reconnect() end

---Ends the subscriptions, lets handlers finish, flushes, closes.
---@param timeout? number default 30
---@return true? ok
---@return moondog.error? err
function connection:drain(timeout) end

---Closes at once, for good.
---@return true
function connection:close() end

---@class moondog.jetstream_options
---@field domain? string
---@field timeout? number of a request, with the wait for a link; default 5
---@field max_pending? integer acknowledgements on their way, of publish_async(); default 4096, at most 131072
---@field wait? boolean waits until there is JetStream, however long that takes: for on_start, with a server that may
---come later

---JetStream over this connection. Waits. When the server or the account has none now: nil, err with the code
---"no_jetstream"; the connection itself works all the same, and later JetStream may be there.
---@param options? moondog.jetstream_options
---@return moondog.jetstream? js
---@return moondog.error? err
function connection:jetstream(options) end

---All of these wait. Errors of the server have the codes "stream_not_found", "stream_exists", "message_not_found",
---"wrong_last_sequence", "wrong_last_msg_id", "wrong_stream", "in_process", "no_storage", "bad_request", or
---"jetstream_" and its number.
---@class moondog.jetstream
local jetstream = {}
---@return table? info memory, storage, streams, consumers, limits, as the server has them
---@return moondog.error? err
function jetstream:account() end
---@param config table as the server has it (name, subjects, storage, retention, num_replicas, ...); max_age and
---duplicate_window in seconds
---@return table? info config, state, cluster
---@return moondog.error? err
function jetstream:add_stream(config) end
---What is left out becomes the server's default again.
---@param config table
---@return table? info
---@return moondog.error? err
function jetstream:update_stream(config) end
---@param name string
---@return table? info
---@return moondog.error? err
function jetstream:stream_info(name) end
---@param options? { subject: string } only streams that take it
---@return table[]? infos
---@return moondog.error? err
function jetstream:streams(options) end
---@param name string
---@return true? ok
---@return moondog.error? err
function jetstream:delete_stream(name) end
---@param name string
---@param options? { subject: string, keep: integer, seq: integer } only of this subject; but the last ones; below seq
---@return integer? purged
---@return moondog.error? err
function jetstream:purge_stream(name, options) end
---@param stream string
---@param which integer|{ seq: integer, next: string? }|{ last: string } a sequence; the next one on a subject that is
---not before it; or the last one on a subject
---@return { subject: string, seq: integer, time: string, data: string, headers: table }? message
---@return moondog.error? err
function jetstream:get_message(stream, which) end

---@class moondog.js_publish_options
---@field headers? table<string, string|string[]>
---@field timeout? number
---@field msg_id? string the stream drops another one with it, within its duplicate_window; while that one is still on
---its way between the servers of a cluster the error is "in_process": nothing is stored yet, so publish again
---@field expect_stream? string
---@field expect_seq? integer the last sequence of the stream
---@field expect_msg_id? string the last message's
---@field expect_subject_seq? integer the last sequence of this subject

---Returns when a stream has stored the message.
---@param subject string
---@param data? string|number
---@param options? moondog.js_publish_options
---@return { stream: string, seq: integer, duplicate: boolean, domain: string? }? ack
---@return moondog.error? err
function jetstream:publish(subject, data, options) end

---The same without the wait for the acknowledgement: it waits only while `max_pending` of them are on their way, and
---for a link. nil, err when it could not be sent.
---@param subject string
---@param data? string|number
---@param options? moondog.js_publish_options
---@return moondog.publication? publication
---@return moondog.error? err
function jetstream:publish_async(subject, data, options) end
---Waits until all that publish_async() has sent so far is acknowledged. nil, err: the first of those that failed since
---the last call, err.failed is how many; or "timeout", and what is counted stays counted.
---@param timeout? number
---@return true? ok
---@return moondog.error? err
function jetstream:publish_async_complete(timeout) end

---@class moondog.publication
local publication = {}
---Whether it is acknowledged, or failed.
---@return boolean done
function publication:done() end
---@param timeout? number default: the rest of the message's own
---@return { stream: string, seq: integer, duplicate: boolean, domain: string? }? ack
---@return moondog.error? err
function publication:wait(timeout) end

---@class moondog.consumer_options
---@field durable? string its name; it stays on the server. Alone, it means the one that there is
---@field name? string of one that the server forgets when nobody reads it; default: a name that is stable for this
---process
---@field filter? string subject
---@field deliver? "all"|"last"|"new"|"last_per_subject" where it begins; default "all"
---@field start_seq? integer where it begins
---@field start_time? string "2026-01-31T12:00:00Z"
---@field ack? "explicit"|"none"|"all" default "explicit"
---@field ack_wait? number seconds, until a message that is not acknowledged comes again
---@field max_deliver? integer
---@field backoff? number[] seconds, before it comes again
---@field max_ack_pending? integer
---@field max_waiting? integer
---@field inactive_threshold? number seconds, after which the server forgets one that is not durable and that nobody
---reads; the server's default is 5
---@field headers_only? boolean
---@field replicas? integer
---@field memory? boolean
---@field replay? "instant"|"original"
---@field description? string
---@field batch? integer messages that are asked for ahead, with those that a handler of consume() has at work among
---them: so many of them are at work at a time; default 256
---@field max_bytes? integer of one batch
---@field heartbeat? number seconds; after two that are missed the server is asked; default 5
---@field expires? number seconds, of one request for messages; default 30

---Makes a consumer, or changes the one with its name.
---@param stream string
---@param options moondog.consumer_options durable or name is there; how it is pulled does not count
---@return table? info
---@return moondog.error? err
function jetstream:add_consumer(stream, options) end
---@param stream string
---@param name string
---@return table? info as the server has it; times in seconds
---@return moondog.error? err
function jetstream:consumer_info(stream, name) end
---@param stream string
---@return table[]? infos
---@return moondog.error? err
function jetstream:consumers(stream) end
---@param stream string
---@param name string
---@return true? ok
---@return moondog.error? err
function jetstream:delete_consumer(stream, name) end

---A consumer to read from; made if it is not there, and changed if one with its name is there and more than the name is
---said of it. From then on it is kept alive: after a fresh link, a restart of the
---server, a silence of two heartbeats or its deletion it is asked for, or made again, behind what was acknowledged.
---After a reload the next generation reads on where this one was. A message that was acknowledged in this process, and
---is delivered again because the server has forgotten that, is acknowledged again and not handled again.
---@param stream string
---@param options moondog.consumer_options
---@return moondog.consumer? consumer
---@return moondog.error? err
function jetstream:consumer(stream, options) end
---A reader that keeps its place by itself: no acknowledgements, each message once and in order. Whenever one is missing
---it is made again behind the last one that was delivered. Only one of a name: another one is nil, err with the code
---"in_use".
---@param stream string
---@param options? moondog.consumer_options name, filter, deliver, start_seq, start_time, headers_only,
---inactive_threshold, replay, description, and how it is pulled
---@return moondog.consumer? consumer
---@return moondog.error? err
function jetstream:ordered(stream, options) end

---Read in one of three ways: messages(), consume(), or fetch() and next().
---@class moondog.consumer
local consumer = {}
---`for msg in consumer:messages() do msg:ack() end`: ends with stop(), with its connection, or with this generation.
---Several tasks may share one consumer; each has one message at a time, so a slow one reads slowly, and less is asked
---for ahead. An error in the loop ends it, as it ends any task: consume() goes on. What a loop that has ended, or was
---left with break, does not read is given back after half of its ack_wait; stop() gives it back at once.
---@return fun(): moondog.message?
function consumer:messages() end
---@param handler fun(msg: moondog.message)
---@return true? ok
---@return moondog.error? err with the code "stopped", or as subscribe()
function consumer:consume(handler) end
---At most `count` messages; fewer, or none, when there are no more in time. What the server has forgotten is made
---again, in the middle of it, too.
---@param count integer at most 65536
---@param options? { timeout: number } default 5
---@return moondog.message[]? messages
---@return moondog.error? err with the code "refused", "disconnected", "stopped" (also when this generation ends: a loop
---ends then), or why the consumer cannot be made again
function consumer:fetch(count, options) end
---@param timeout? number default 5
---@return moondog.message? message
---@return moondog.error? err with the code "timeout", when there is none
function consumer:next(timeout) end
---@return table? info as the server has it; times in seconds
---@return moondog.error? err
function consumer:info() end
---name, stream, state ("idle", "reading", "recovering", "disconnected", "stopped"), delivered, skipped (acknowledged
---before), queued, unacknowledged, pending (behind the last one), seq (of an ordered one), recreated, silences, error.
---@return table status
function consumer:status() end
---Reads no more. What was asked for and nobody has read goes back to the server, for others; without acknowledgements
---it is left to those who read. A consumer that is not durable and has no name of its own goes from the server.
---@return true
function consumer:stop() end
---Stops it, and ends it on the server.
---@return true? ok
---@return moondog.error? err
function consumer:delete() end

---@class moondog.bucket_options
---@field bucket string letters, digits, - and _
---@field description? string
---@field history? integer revisions kept of each key, 1 to 64; default 1
---@field ttl? number seconds that a value is kept; default: for ever
---@field max_value_size? integer bytes
---@field max_bytes? integer of the whole bucket: at it, writing fails with the code "bucket_full"
---@field storage? "file"|"memory" default "file"
---@field replicas? integer default 1
---@field placement? table cluster, tags
---@field limit_marker_ttl? number seconds that the marker of a value that has expired is kept: a bucket with it takes
---the option ttl of put, create and update. Needs nats-server 2.11; otherwise nil, err with the code "unsupported"

---Makes a bucket: the stream KV_<bucket>, as all clients of NATS know it. One that is there with the same
---configuration is bound; with another: nil, err with the code "bucket_exists".
---@param options moondog.bucket_options
---@return moondog.key_value? kv
---@return moondog.error? err
function jetstream:create_key_value(options) end
---Binds a bucket that is there; a mirror of one, too: it is read from, and what it mirrors is written to.
---@param bucket string
---@return moondog.key_value? kv
---@return moondog.error? err code "bucket_not_found"
function jetstream:key_value(bucket) end
---@return table[]? statuses of all buckets, as key_value:status() has them
---@return moondog.error? err
function jetstream:key_values() end
---@param bucket string
---@return true? ok
---@return moondog.error? err code "bucket_not_found"
function jetstream:delete_key_value(bucket) end

---A bucket. A key has letters, digits and - / _ = . with no dot at either end and no two in a row.
---
---All of these wait. Errors have the codes "key_not_found", "key_exists", "wrong_revision", "value_too_large",
---"bucket_full", "bucket_not_found", "bucket_read_only", "unsupported", or those of requests and of jetstream. After
---"timeout" or "disconnected" a writer does not know whether it has written: get() tells, and update() with the same
---revision is safe to try again.
---@class moondog.key_value
local key_value = {}

---@class moondog.kv_entry
---@field bucket string
---@field key string
---@field value string
---@field revision integer grows with each change of the bucket
---@field time number seconds since 1970
---@field operation "PUT"|"DEL"|"PURGE"
---@field delta integer how many newer ones there were behind it

---The value that the key has; nil, err with the code "key_not_found" when there is none, or it is deleted.
---
---Any server that has a copy of the bucket answers. With replicas or a mirror that can be a moment older than what
---this script has just written; `direct = false` asks the one that takes the writes.
---@param key string
---@param options? { revision: integer, direct: boolean } revision: the value that the key had then, while it is kept
---@return moondog.kv_entry? entry
---@return moondog.error? err
function key_value:get(key, options) end
---@param key string
---@param value string|number
---@param options? { ttl: number } seconds, for this value; see limit_marker_ttl
---@return integer? revision
---@return moondog.error? err
function key_value:put(key, value, options) end
---Only when the key has no value: never had one, or it was deleted or purged. Otherwise nil, err: "key_exists".
---@param key string
---@param value string|number
---@param options? { ttl: number }
---@return integer? revision
---@return moondog.error? err
function key_value:create(key, value, options) end
---Only when that revision is the key's last one (0: it has none). Otherwise nil, err: "wrong_revision".
---@param key string
---@param value string|number
---@param revision integer
---@param options? { ttl: number }
---@return integer? revision
---@return moondog.error? err
function key_value:update(key, value, revision, options) end
---Puts a marker after the values, which the history keeps.
---@param key string
---@param options? { revision: integer } only when that is the last one
---@return integer? revision of the marker
---@return moondog.error? err
function key_value:delete(key, options) end
---Replaces the values by a marker.
---@param key string
---@param options? { revision: integer } only when that is the last one
---@return integer? revision of the marker
---@return moondog.error? err
function key_value:purge(key, options) end
---Keys that have a value, in no order. For very many, and to follow them, there is watch().
---@param filter? string "orders.*", "orders.>"; default: all
---@return string[]? keys
---@return moondog.error? err code "too_many_keys" beyond 500,000; "replaced" after a reload
function key_value:keys(filter) end
---What is kept of a key, oldest first, markers too.
---@param key string
---@return moondog.kv_entry[]? entries
---@return moondog.error? err code "key_not_found" when nothing is kept
function key_value:history(key) end
---Removes what deleted keys have left in the bucket: the values in their history, and the markers that are older than
---so many seconds (default 1800; younger ones stay for watches that were away). What is written meanwhile stays.
---@param options? { older_than: number }
---@return integer? removed revisions
---@return moondog.error? err
function key_value:purge_deletes(options) end
---bucket, stream, description, values (revisions, markers among them), bytes, revision (the last one), history, ttl,
---max_value_size, max_bytes, storage, replicas, direct, mirror, key_ttl, cluster.
---@return table? status
---@return moondog.error? err
function key_value:status() end

---@class moondog.watch_options
---@field include_history? boolean begins with everything that is kept, not with each key's last entry
---@field updates_only? boolean begins with what is written from now on
---@field resume_from? integer begins with this revision
---@field ignore_deletes? boolean leaves out markers
---@field headers_only? boolean values are not sent: they are ""
---@field fresh? boolean begins anew in each generation, also after a reload

---Follows keys: begins with the last entry of each, and goes on with every change, oldest first. Whatever happens to
---the link or the server, it goes on behind the last revision that it has seen; revisions never go back, unless the
---bucket was deleted and made again. So it does after a reload, when the new generation opens the same watch: what it
---has learnt before is to be in moondog.state, or `fresh` has it told once more.
---
---With a handler, that is called for each entry; while it waits, the next one is handled. Without one, updates() hands
---them over one after the other. `kv:watch("a.*", f)`, `kv:watch(f)`, `kv:watch({ "a", "b.>" }, { fresh = true })`.
---@param keys? string|string[] filters: "orders.*", "orders.>"; default: all
---@param handler? fun(entry: moondog.kv_entry)
---@param options? moondog.watch_options
---@return moondog.watch? watch
---@return moondog.error? err
function key_value:watch(keys, handler, options) end

---@class moondog.watch
local watch = {}
---For a watch without a handler: `for entry in watch:updates() do ... end`. It ends with stop() and the generation.
---@return fun(): moondog.kv_entry?
function watch:updates() end
---Waits until what was there at the beginning has been handed over, by the handler or by updates() in another task.
---@param timeout? number default: the context's
---@return true? ok
---@return moondog.error? err "timeout", or "stopped"
function watch:ready(timeout) end
---@return true
function watch:stop() end
---bucket, filter, revision (the last one seen), ready, delivered, repeated (came again, and was left out), state
---("idle", "reading", "recovering", "disconnected", "stopped"), pending, queued, recreated, silences, error.
---@return table status
function watch:status() end

---@class moondog.subscription
local subscription = {}
---No message is handled after this.
---@return true
function subscription:unsubscribe() end
---What has arrived is still handled.
---@return true
function subscription:drain() end
---@return table stats subject, queue, active, handled, errors, overruns, dropped, queued,
---  latency_p50, latency_p99 (seconds, of the recent past; nil before the first message)
function subscription:stats() end

---Valid until its handler ends.
---@class moondog.message
---@field subject string
---@field data string
---@field reply? string
---@field headers table<string, string|string[]> raises an error when they have more than 1000 lines
local message = {}
---@param data? string|number
---@param headers? table<string, string|string[]>
---@return true? ok
---@return moondog.error? err
function message:respond(data, headers) end
---Keeps the message beyond its handler.
---@return moondog.message
function message:retain() end

---Messages of JetStream are answered once: with ack(), ack_sync(), nak() or term(). nil, err with the code
---"already_acknowledged", "no_jetstream_message", or as publish().
---@return true? ok
---@return moondog.error? err
function message:ack() end
---Waits until the server confirms it.
---@param timeout? number default 5
---@return true? ok
---@return moondog.error? err
function message:ack_sync(timeout) end
---It comes again, at once or after a delay.
---@param delay? number seconds, at most 4000000
---@return true? ok
---@return moondog.error? err
function message:nak(delay) end
---It never comes again.
---@return true? ok
---@return moondog.error? err
function message:term() end
---It takes longer: the time to acknowledge it begins anew.
---@return true? ok
---@return moondog.error? err
function message:in_progress() end
---@return { stream: string, consumer: string, seq: integer, consumer_seq: integer, deliveries: integer, time: number,
---pending: integer, domain: string? }? metadata time: seconds since 1970; nil: it is no message of JetStream
function message:metadata() end

---The functions of the host program, one that embeds moondog (md_register() in moondog.h): host.NAME(...). They are
---looked for when they are called, so `local move = host.move` stays good when the host replaces move. They can be
---called from moondog.on_start() on, not while the script is loaded; none of them waits. `moondog run` has none: a call
---raises an error that says which there are.
---
---They take and give plain data: nil, booleans, numbers, strings, lists (tables with the keys 1 to n; {} is one) and
---maps with strings as keys, 32 of them inside each other and 8 MiB in a call at most. Anything else raises an error
---that names it, such as "argument 2.players.3 is a function". What can fail in operation gives nil, err.
---@class host
---@field [string] fun(...: any): any
host = {}

return moondog
