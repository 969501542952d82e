#!/usr/bin/env python3
"""Checks the files of a build that have changed since they were last found good.

usage: check_sources.py tidy|includes BUILD-FOLDER CACHE-FOLDER [JOBS]

  tidy      clang-tidy
  includes  the compiler's front end without precompiled headers: every file includes what it uses

A file is checked again when it, a header of the repository that it includes, its compiler flags, the tool or its configuration
have changed; what it includes is what ninja recorded when it was compiled. Prints findings, then one line; exit code 1 when there are any.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

PRECOMPILED = re.compile(r" -Winvalid-pch -include \S+/cmake_pch\.hxx")


class Tidy:
    def __init__(self, root, entries):
        self.configuration = version_of("clang-tidy") + pathlib.Path(root, ".clang-tidy").read_bytes()
        self.entries = entries
        self.database = tempfile.TemporaryDirectory()
        known = [{key: entry[key] for key in ("directory", "command", "file")} for entry in entries]
        pathlib.Path(self.database.name, "compile_commands.json").write_text(json.dumps(known))

    def command(self, entry):
        return ["clang-tidy", "--quiet", "-p", self.database.name, entry["file"]]


class Includes:
    def __init__(self, _, entries):
        compiler = shlex.split(entries[0]["command"])[0] if entries else "c++"
        self.configuration = b"includes" + version_of(compiler)
        self.entries = [entry for entry in entries if entry["precompiled"]]

    def command(self, entry):
        return [*shlex.split(entry["command"]), "-fsyntax-only"]


CHECKS = {"tidy": Tidy, "includes": Includes}


def version_of(tool):
    return subprocess.run([tool, "--version"], check=True, capture_output=True).stdout


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
    """The files of the build that people have written, without what only g++ understands: its precompiled headers and parameters."""
    entries = []
    for entry in json.loads(pathlib.Path(build, "compile_commands.json").read_text()):
        if entry["file"].startswith(build + os.sep):
            continue
        command = re.sub(r" --param \S+", "", entry["command"])
        entries.append({**entry, "command": PRECOMPILED.sub("", command), "precompiled": bool(PRECOMPILED.search(command))})
    return entries


def output_of(entry):
    return re.search(r" -o (\S+)", entry["command"]).group(1)


def key_of(entry, includes, root, configuration):
    digest = hashlib.sha256(configuration)
    digest.update(entry["command"].replace(root, "").encode())  # a clone elsewhere is the same build
    files = [entry["file"]]
    files += [os.path.join(entry["directory"], name) for name in includes.get(output_of(entry), [])]
    for name in sorted({os.path.realpath(name) for name in files}):
        if name.startswith(root + os.sep) and "cmake_pch.hxx" not in name and os.path.exists(name):
            digest.update(name[len(root):].encode() + b"\0" + pathlib.Path(name).read_bytes())
    return digest.hexdigest()


def run(check, entry):
    result = subprocess.run(["nice", *check.command(entry)], cwd=entry["directory"], capture_output=True, text=True)
    return result.returncode, result.stdout + (result.stderr if result.returncode else "")


def main():
    build, cache = os.path.realpath(sys.argv[2]), pathlib.Path(sys.argv[3])
    jobs = int(sys.argv[4]) if len(sys.argv) > 4 else os.cpu_count()
    root = os.path.dirname(os.path.dirname(build))
    cache.mkdir(parents=True, exist_ok=True)
    check = CHECKS[sys.argv[1]](root, entries_of(build))
    if not check.entries:
        sys.exit(f"{build} has no files to check")
    includes = recorded_includes(build)
    todo = []
    for entry in check.entries:
        mark = cache / key_of(entry, includes, root, check.configuration)
        if mark.exists():
            mark.touch()
        else:
            todo.append((entry, mark))
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run, check, entry): (entry, mark) for entry, mark in todo}
        for future in concurrent.futures.as_completed(running):
            entry, mark = running[future]
            code, output = future.result()
            if code == 0:
                mark.touch()
            else:
                failed += 1
                print(f"{entry['file']}:\n{output}", flush=True)
    print(f"{len(check.entries)} files, {len(todo)} of them checked, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
