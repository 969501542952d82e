#!/usr/bin/env python3
"""Keeps connections busy, each with one request after the other, until SIGINT; then says how it went.

usage: busy.py ADDRESS PORT CONNECTIONS STARTED-FILE
STARTED-FILE is written when every connection has had its first answer. Exit code 1 when a connection was lost.
"""

import asyncio
import collections
import signal
import sys

REQUEST = b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n"
TIMEOUT = 5  # seconds for an answer


async def talk(address, port, state):
    reader, writer = await asyncio.open_connection(address, port)
    first = True
    while not state["stop"]:
        writer.write(REQUEST)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        state["requests"] += 1
        if first:
            state["servers"][body.decode()] += 1
            first = False
        await asyncio.sleep(0.01)
    writer.close()


async def main():
    address, port, count, started = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    state = {"stop": False, "requests": 0, "servers": collections.Counter()}
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: state.update(stop=True))
    tasks = [asyncio.create_task(talk(address, port, state)) for _ in range(count)]
    while sum(state["servers"].values()) < count and not any(task.done() for task in tasks):
        await asyncio.sleep(0.01)
    with open(started, "w", encoding="utf-8") as file:
        file.write("started\n")
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    lost = [outcome for outcome in outcomes if outcome is not None]
    servers = ", ".join(f"{hits} on {name}" for name, hits in sorted(state["servers"].items()))
    print(f"{count} connections ({servers}): {state['requests']} requests, {len(lost)} connections lost")
    for outcome in lost[:3]:
        print(f"  {type(outcome).__name__}: {outcome}")
    return 1 if lost else 0


sys.exit(asyncio.run(main()))
