#!/usr/bin/env python3
"""A web server that answers every request with its name. usage: web.py PORT NAME"""

import asyncio
import sys


async def serve(reader, writer):
    name = sys.argv[2].encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name)
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]), backlog=512)
    await server.serve_forever()


asyncio.run(main())
