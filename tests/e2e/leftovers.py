"""What Sluice keeps in a node's kernel and on its disk, and that nothing of it is left."""

import json

from lab import expect, wait_for

PINS = "/sys/fs/bpf/sluice"


def nodes(lab):
    return range(1, lab.nodes + 1)


def pins(lab, node):
    return lab.node(node, "find", PINS, "-type", "f", check=False).stdout.split()


def pinned(lab, node, kind, path):
    """The kernel's number of a pinned object of a kind; None where it is of another kind."""
    result = lab.node(node, "bpftool", "-j", kind, "show", "pinned", path, check=False)
    if result.returncode != 0:
        return None
    found = json.loads(result.stdout)
    found = found[0] if isinstance(found, list) else found
    return found.get("id")


def attached(lab, node):
    """Programs on the node's devices: (what, number)."""
    found = json.loads(lab.node(node, "bpftool", "-j", "net").stdout)[0]
    return {(f"{kind} {entry.get('devname')}", entry["id"]) for kind in ("xdp", "tc") for entry in found.get(kind, []) if "id" in entry}


def kernel_objects(lab):
    """{(node, kind, number)} of every pinned map, program and link, and of what is attached to devices."""
    objects = set()
    for node in nodes(lab):
        for path in pins(lab, node):
            for kind in ("map", "prog", "link"):
                number = pinned(lab, node, kind, path)
                if number is not None:
                    objects.add((node, kind, number))
        objects |= {(node, "prog", number) for _, number in attached(lab, node)}
    return objects


def still_there(lab, objects):
    """The kernel numbers are never given twice, so one that still answers is the same object."""
    return {(node, kind, number) for node, kind, number in objects
            if lab.node(node, "bpftool", kind, "show", "id", str(number), check=False).returncode == 0}


def expect_none(lab, objects):
    for node in nodes(lab):
        expect(not pins(lab, node), f"node {node}: pinned: {pins(lab, node)}")
        expect(not attached(lab, node), f"node {node}: attached: {attached(lab, node)}")
        filters = lab.node(node, "tc", "filter", "show", "dev", "eth0", "egress").stdout
        expect("bpf" not in filters, f"node {node}: tc filters: {filters}")
        links = lab.node(node, "ip", "-o", "link", "show").stdout
        expect("sluice" not in links, f"node {node}: devices: {links}")
        for family in ("-4", "-6"):
            for what in (("rule", "show"), ("route", "show", "table", "all")):
                led = lab.node(node, "ip", family, *what).stdout
                expect("6082" not in led and "sluice" not in led, f"node {node}: {what[0]}s: {led}")
        left = lab.node(node, "find", "/var/lib/sluice", "-mindepth", "1", check=False).stdout.split()
        expect(not left, f"node {node}: files: {left}")
    # The kernel frees what nothing holds any more after a grace period.
    wait_for("the kernel has freed every map, program and link", lambda: not still_there(lab, objects), 10)
