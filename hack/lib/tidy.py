#!/usr/bin/env python3
"""Runs clang-tidy over the files of a build that have changed since they were last found clean.

usage: tidy.py BUILD-FOLDER CACHE-FOLDER [JOBS]

A file is checked again when it, a header of the repository that it includes, its compiler flags, .clang-tidy or clang-tidy itself
has changed; what it includes is what ninja recorded when it was compiled. Prints findings, then one line; exit code 1 when there are any.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile


def recorded_includes(build):
    """What ninja knows of each object: {object: [files]}."""
    text = subprocess.run(["ninja", "-C", build, "-t", "deps"], check=True, capture_output=True, text=True).stdout
    includes, current = {}, None
    for line in text.splitlines():
        if line.startswith("    "):
            includes[current].append(line.strip())
        elif ": #deps" in line:
            current = line.split(": #deps")[0]
            includes[current] = []
    return includes


def entries_of(build):
    """The files of the build, without what only the compiler understands: its precompiled headers and parameters."""
    entries = json.loads(pathlib.Path(build, "compile_commands.json").read_text())
    for entry in entries:
        entry["command"] = re.sub(r" -Winvalid-pch -include \S+/cmake_pch\.hxx| --param \S+", "", entry["command"])
    return [entry for entry in entries if not generated(entry)]


def output_of(entry):
    return re.search(r" -o (\S+)", entry["command"]).group(1)


def key_of(entry, includes, root, common):
    digest = hashlib.sha256(common)
    digest.update(entry["command"].replace(root, "").encode())  # a clone elsewhere is the same build
    files = [entry["file"]]
    files += [os.path.join(entry["directory"], name) for name in includes.get(output_of(entry), [])]
    for name in sorted({os.path.realpath(name) for name in files}):
        if name.startswith(root + os.sep) and "cmake_pch.hxx" not in name and os.path.exists(name):
            digest.update(name[len(root):].encode() + b"\0" + pathlib.Path(name).read_bytes())
    return digest.hexdigest()


def generated(entry):
    return os.sep + "build" + os.sep in entry["file"] or entry["file"].endswith(".pb.cc")


def check(entry, database):
    result = subprocess.run(["nice", "clang-tidy", "--quiet", "-p", database, entry["file"]], capture_output=True, text=True)
    return result.returncode, result.stdout + (result.stderr if result.returncode else "")


def main():
    build, cache = os.path.realpath(sys.argv[1]), pathlib.Path(sys.argv[2])
    jobs = int(sys.argv[3]) if len(sys.argv) > 3 else os.cpu_count()
    root = os.path.dirname(os.path.dirname(build))
    cache.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["clang-tidy", "--version"], check=True, capture_output=True).stdout
    common = version + pathlib.Path(root, ".clang-tidy").read_bytes()
    entries = entries_of(build)
    includes = recorded_includes(build)
    todo = []
    for entry in entries:
        mark = cache / key_of(entry, includes, root, common)
        if mark.exists():
            mark.touch()
        else:
            todo.append((entry, mark))
    failed = 0
    with tempfile.TemporaryDirectory() as database, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        pathlib.Path(database, "compile_commands.json").write_text(json.dumps(entries))
        running = {pool.submit(check, entry, database): (entry, mark) for entry, mark in todo}
        for future in concurrent.futures.as_completed(running):
            entry, mark = running[future]
            code, output = future.result()
            if code == 0:
                mark.touch()
            else:
                failed += 1
                print(f"{entry['file']}:\n{output}", flush=True)
    print(f"{len(entries)} files, {len(todo)} of them checked, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
