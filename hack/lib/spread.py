#!/usr/bin/env python3
"""Asks a URL on a new connection each time and shows who answered. usage: spread.py URL COUNT; exit code 1 when one failed."""

import collections
import sys
import urllib.request


def main():
    url, count = sys.argv[1], int(sys.argv[2])
    answers = collections.Counter()
    failed = 0
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(count):
        try:
            with opener.open(url, timeout=3) as reply:
                answers[reply.read().decode().strip()] += 1
        except OSError as error:
            failed += 1
            print(f"    failed: {error}", file=sys.stderr)
    for name, hits in sorted(answers.items()):
        print(f"    {name:<12} {hits:>6}  {100 * hits / count:5.1f} %  {'#' * round(40 * hits / count)}")
    return 1 if failed else 0


sys.exit(main())
