#!/usr/bin/env python3
"""Keeps an HTTP server busy and tells every request that failed.

usage: load.py [--kept N] [--fresh N] [--requests N] [--seconds S] [--timeout S] ADDRESS PORT

  --kept N      connections that are kept and send one request after the other (default 20)
  --fresh N     workers that make a new connection for each request (default 10)
  --requests N  end after so many requests in all
  --seconds S   end after so long
  --pause S     each worker waits so long between requests (default 0.002)
  --timeout S   a request that takes longer has failed (default 5)

Without --requests and --seconds it runs until its standard input ends. The answers' first line is "NAME VERSION CLIENT" (the
echo image). A kept connection is made anew when the server says "Connection: close", which is not a failure; an end without that
word, a reset, a refusal, a status other than 200 and a timeout are.

Prints one JSON object: requests, failed, failures (the first 20, with times), names, versions, clients, connections, longest
(milliseconds), longest_gap (milliseconds between two answers), seconds.
"""

import argparse
import asyncio
import collections
import json
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: echo\r\n\r\n"
REQUEST_AND_CLOSE = b"GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n"


class Report:
    def __init__(self):
        self.start = time.monotonic()
        self.requests = 0
        self.failed = 0
        self.failures = []
        self.names = collections.Counter()
        self.versions = collections.Counter()
        self.clients = collections.Counter()
        self.connections = 0
        self.longest = 0.0
        self.last_answer = self.start
        self.longest_gap = 0.0

    def answered(self, line, began):
        now = time.monotonic()
        self.requests += 1
        self.longest = max(self.longest, now - began)
        self.longest_gap = max(self.longest_gap, now - self.last_answer)
        self.last_answer = now
        name, version, client = line.split(" ")
        self.names[name] += 1
        self.versions[version] += 1
        self.clients[client.rsplit(":", 1)[0]] += 1

    def failure(self, kind, error):
        self.requests += 1
        self.failed += 1
        if len(self.failures) < 20:
            at = time.monotonic() - self.start
            self.failures.append(f"{at:.2f} s, {kind} connection: {type(error).__name__} {error}".strip())

    def as_json(self):
        return json.dumps({
            "requests": self.requests,
            "failed": self.failed,
            "failures": self.failures,
            "names": dict(self.names.most_common()),
            "versions": dict(self.versions.most_common()),
            "clients": dict(self.clients.most_common()),
            "connections": self.connections,
            "longest": round(self.longest * 1000, 1),
            "longest_gap": round(self.longest_gap * 1000, 1),
            "seconds": round(time.monotonic() - self.start, 2),
        })


class Worker:
    """One client: a kept connection, or a fresh one for each request."""

    def __init__(self, options, report, kept):
        self.options = options
        self.report = report
        self.kept = kept
        self.reader = None
        self.writer = None

    async def connect(self):
        self.reader, self.writer = await asyncio.open_connection(self.options.address, self.options.port)
        self.report.connections += 1

    def close(self):
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    async def exchange(self):
        """One request and its answer; returns the answer's line."""
        if self.writer is None:
            await self.connect()
        self.writer.write(REQUEST if self.kept else REQUEST_AND_CLOSE)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        if not head.startswith("HTTP/1.1 200 "):
            raise ValueError(f"status line {head.splitlines()[0]!r}")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await self.reader.readexactly(int(fields["content-length"]))
        if not self.kept or fields.get("connection") == "close":
            self.close()
        return body.decode().strip()

    async def run(self, done):
        while not done.is_set():
            began = time.monotonic()
            try:
                line = await asyncio.wait_for(self.exchange(), self.options.timeout)
                self.report.answered(line, began)
            except (OSError, ValueError, EOFError, KeyError, asyncio.TimeoutError, asyncio.LimitOverrunError) as error:
                self.report.failure("kept" if self.kept else "fresh", error)
                self.close()
                await asyncio.sleep(0.1)
            if self.options.requests and self.report.requests >= self.options.requests:
                done.set()
            await asyncio.sleep(self.options.pause)
        self.close()


async def end_of_input(done):
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    done.set()


async def run(options):
    report = Report()
    done = asyncio.Event()
    workers = [Worker(options, report, True) for _ in range(options.kept)]
    workers += [Worker(options, report, False) for _ in range(options.fresh)]
    tasks = [asyncio.create_task(worker.run(done)) for worker in workers]
    if options.seconds:
        asyncio.get_running_loop().call_later(options.seconds, done.set)
    elif not options.requests:
        tasks.append(asyncio.create_task(end_of_input(done)))
    await asyncio.gather(*tasks)
    return report


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--kept", type=int, default=20)
    parser.add_argument("--fresh", type=int, default=10)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--pause", type=float, default=0.002)
    parser.add_argument("--timeout", type=float, default=5)
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    print(asyncio.run(run(parser.parse_args())).as_json())


if __name__ == "__main__":
    main()
