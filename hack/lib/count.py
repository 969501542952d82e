#!/usr/bin/env python3
"""Counts the single cases of a run of ctest.

usage: count.py CTEST-JUNIT-FILE GTEST-XML-FOLDER

CTest knows programs; GoogleTest programs write what became of each of their cases. A program that failed without a failed
case (it crashed, or took too long) counts as one failure more; one that wrote nothing and passed counts as one test passed. A
skipped case is a failure: tests here never skip. Prints "PASSED FAILED", and the names of what failed on stderr.
"""

import pathlib
import sys
import xml.etree.ElementTree as xml


def cases_of(path):
    """(passed, names of failed) of one GoogleTest file."""
    passed, failed = 0, []
    for case in xml.parse(path).getroot().iter("testcase"):
        if case.get("status") == "notrun":
            continue
        if case.find("failure") is not None or case.get("result") == "skipped" or case.find("skipped") is not None:
            failed.append(f"{case.get('classname')}.{case.get('name')}")
        else:
            passed += 1
    return passed, failed


def count(program, folder):
    """(passed, names of failed) of one program of ctest's."""
    name = program.get("name")
    ok = program.get("status") == "run"
    files = sorted(folder.glob(name.split(".", 1)[-1] + ".xml"))
    if not files:
        return (1, []) if ok else (0, [f"{name} ({program.get('status')})"])
    passed, failed = cases_of(files[0])
    if not ok and not failed:
        failed.append(f"{name} (crashed, or took too long)")
    return passed, [f"{name}: {case}" for case in failed]


def main():
    folder = pathlib.Path(sys.argv[2])
    passed, failed = 0, []
    for program in xml.parse(sys.argv[1]).getroot().iter("testcase"):
        more, names = count(program, folder)
        passed += more
        failed += names
    for name in failed:
        print(f"    failed: {name}", file=sys.stderr)
    print(passed, len(failed))


if __name__ == "__main__":
    main()
