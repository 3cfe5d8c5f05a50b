# The benches' client of nats-py. It takes the orders of tests/bench/client.c, whose first comment
# says what they are, and answers as that one does; it does not offer.
# usage: client.py URL NAME [stock]
import asyncio
import sys
import time

import nats

WAIT = 30  # seconds; what lasts longer is an error; all of this the same in all clients
PENDING = {"pending_msgs_limit": 524288, "pending_bytes_limit": 64 << 20}
RECONNECT = {"reconnect_time_wait": 0.01}
PARKED = 600  # of what is to be there, and not to happen
STEP = 1000  # subscriptions between two flushes

URL, NAME = sys.argv[1:3]
STOCK = sys.argv[3:] == ["stock"]


class Client:
    def __init__(self):
        self.received = 0
        self.targets = []
        self.kept = []  # what would be collected, or closed, if nobody had it

    async def connect(self):
        # Each failed attempt is reported here, too; by default the library logs them.
        async def on_error(err):
            if not isinstance(err, OSError):
                print(f"{NAME}: {err!r}", file=sys.stderr)

        return await nats.connect(
            URL,
            name=NAME,
            max_reconnect_attempts=-1,
            error_cb=on_error,
            **({} if STOCK else RECONNECT),
        )

    async def subscribe_all(self, order, callback):
        subs = []
        for i in range(order["subjects"]):
            subject = f"{order['subject']}.{i}"
            subs.append(await self.nc.subscribe(subject, cb=callback, **PENDING))
            if i % STEP == STEP - 1:
                await self.nc.flush(WAIT)
        await self.nc.flush(WAIT)
        return subs

    async def subscribe(self, order):
        for sub in self.targets:
            await sub.unsubscribe()
        self.received, self.targets = 0, []

        async def count(_):
            self.received += 1

        self.targets = await self.subscribe_all(order, count)
        return len(self.targets), 0, []

    async def count_received(self, _):
        return self.received, 0, []

    async def publish(self, order):
        publish, subject, data = self.nc.publish, order["subject"], order["data"]
        latencies = []
        begun = before = time.perf_counter()
        for _ in range(order["count"] // order["value"]):
            for _ in range(order["value"]):
                await publish(subject, data)
            await self.nc.flush(WAIT)
            after = time.perf_counter()
            latencies.append(after - before)
            before = after
        return order["count"], before - begun, latencies

    async def request(self, order):
        latencies = []
        turns = iter(range(order["count"]))  # shared by all lanes

        async def lane():
            for _ in turns:
                before = time.perf_counter()
                await self.nc.request(order["subject"], order["data"], timeout=WAIT)
                latencies.append(time.perf_counter() - before)

        begun = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(order["value"])))
        return order["count"], time.perf_counter() - begun, latencies

    async def answer(self, order):
        async def respond(msg):
            await msg.respond(msg.data)

        return len(await self.subscribe_all(order, respond)), 0, []

    async def connect_more(self, order):
        for _ in range(order["count"]):
            self.kept.append(await self.connect())
        return order["count"], 0, []

    async def park(self, order):
        for _ in range(order["count"]):
            request = self.nc.request(order["subject"], b"", timeout=PARKED)
            self.kept.append(asyncio.create_task(request))
        await asyncio.sleep(0)  # each has begun, and published
        await self.nc.flush(WAIT)
        return order["count"], 0, []

    async def timers(self, order):
        loop = asyncio.get_running_loop()
        for _ in range(order["count"]):
            loop.call_later(PARKED, lambda: None)
        return order["count"], 0, []

    async def perform(self, msg):
        operations = {
            "subscribe": self.subscribe,
            "received": self.count_received,
            "publish": self.publish,
            "request": self.request,
            "answer": self.answer,
            "connect": self.connect_more,
            "park": self.park,
            "timers": self.timers,
        }
        head, _, data = msg.data.partition(b"\n")
        name, count, value, subject, subjects = head.decode().split(" ")
        order = {
            "count": int(count),
            "value": int(value),
            "subject": subject,
            "subjects": int(subjects),
            "data": data,
        }
        try:
            done, took, latencies = await operations[name](order)
        except Exception as err:
            return f"error: {name}: {err!r}"
        latencies.sort()
        parts = [latencies[int(p * len(latencies))] if latencies else 0 for p in (0.5, 0.99, 0.999)]
        return " ".join([str(done), *(f"{seconds:.9f}" for seconds in (took, *parts))])

    async def run(self):
        self.nc = await self.connect()

        async def take(msg):
            text = await self.perform(msg)
            await msg.respond(text.encode())

        await self.nc.subscribe(f"bench.{NAME}", cb=take)
        await asyncio.Event().wait()  # the bench ends this process


asyncio.run(Client().run())
