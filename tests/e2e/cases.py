"""What must hold, in the order in which it is tried. Each case leaves the cluster as the next one wants it: Sluice installed,
`web` (a Service over four pods) and `shop` (a LoadBalancer, 90/10 over two Services) in place.
"""

import contextlib
import json
import time

from lab import NAMESPACE, ROOT, expect, wait_for
import audit
import leftovers
import refusals

CHART = str(ROOT / "charts" / "sluice")
# What operators of a laboratory set: logs for people, and a shorter time until a lost agent's addresses move.
VALUES = ["--set", "log.format=text", "--set", "announceGrace=10s"]
WEB = ("Service", "default", "web")
SHOP = ("LoadBalancer", "default", "shop")


def install(lab):
    lab.helm("install", "sluice", CHART, "--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s", *VALUES)


def address_of(lab, owner):
    return lab.addresses()[owner][0]


def endpoints_ready(lab, service):
    """How many ready endpoints a Service has."""
    slices = lab.items("endpointslices", "-l", f"kubernetes.io/service-name={service}")
    return sum(1 for s in slices for e in s["endpoints"] or [] if e.get("conditions", {}).get("ready"))


def wait_endpoints(lab, service, count):
    wait_for(f"service {service} has {count} ready endpoints", lambda: endpoints_ready(lab, service) == count, 90)


def agents_ready(lab):
    lab.kubectl("rollout", "status", "daemonset/sluice-agent", "-n", NAMESPACE, "--timeout=120s")


@contextlib.contextmanager
def operator_away(lab):
    """No operator runs while the block does; afterwards they are back, whatever happened in it."""
    operator = ("deployment/sluice-operator", "-n", NAMESPACE)
    lab.kubectl("scale", *operator, "--replicas=0")
    try:
        wait_for("no operator runs", lambda: not lab.pods("operator"), 60)
        yield
    finally:
        lab.kubectl("scale", *operator, "--replicas=2")
    lab.kubectl("rollout", "status", *operator, "--timeout=60s")


def wait_names(lab, address, count):
    """Waits until just so many pods answer at an address."""
    wait_for(f"{count} pods answer at {address}", lambda: len(lab.requests(address, count=40 * count)["names"]) == count, 30)


def the_api_server_accepts_the_chart(lab):
    """The API server accepts all that the chart renders"""
    lab.kubectl("create", "namespace", NAMESPACE)
    rendered = lab.helm("template", "sluice", CHART, "--namespace", NAMESPACE).stdout
    out = lab.kubectl("apply", "--dry-run=server", "-f", "-", text=rendered)
    expect(out.count("created (server dry run)") >= 20, f"hardly anything was rendered:\n{out}")


def values_that_cannot_work_are_refused(lab):
    """Values that an agent would end with at its start are refused by the chart"""
    for grace, good in (("0s", False), ("1s", False), ("0m", False), ("10", False), ("2s", True), ("10s", True), ("1m", True)):
        result = lab.helm("template", "sluice", CHART, "--set-string", f"announceGrace={grace}", check=False)
        expect((result.returncode == 0) == good, f"announceGrace={grace}: exit {result.returncode}: {result.stderr}")
        expect(good or "announceGrace" in result.stderr, f"announceGrace={grace}: names something else: {result.stderr}")


def the_chart_installs(lab):
    """helm install: operator and agents become Ready as pods"""
    install(lab)
    expect(len(lab.pods("agent")) == lab.nodes, "there is not one agent on each node")
    expect(len(lab.items("loadbalancernodes")) == lab.nodes, "there is not one LoadBalancerNode for each node")


def agents_have_no_more_rights_than_they_need(lab):
    """Agents have no token, four capabilities, no privileges and a read-only root"""
    wanted = {"NetAdmin": 12, "NetRaw": 13, "Perfmon": 38, "Bpf": 39}
    for node in range(1, lab.nodes + 1):
        status = lab.node(node, "cat", f"/proc/{lab.agent_pid(node)}/status").stdout
        effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
        expect(effective == sum(1 << bit for bit in wanted.values()), f"node {node}: capabilities {effective:x}")
        mounts = lab.node(node, "cat", f"/proc/{lab.agent_pid(node)}/mounts").stdout
        expect("serviceaccount" not in mounts, f"node {node}: a token is mounted")
        root = next(line for line in mounts.splitlines() if line.split()[1] == "/")
        expect("ro" in root.split()[3].split(","), f"node {node}: the root is writable: {root}")
    for pod in lab.pods("agent"):
        volume = next(v for v in pod["spec"]["volumes"] if v["name"] == "tls")
        expect(volume["secret"]["secretName"] == "sluice-agent-tls", "an agent mounts another's keys")


def agents_listen_on_the_nodes_own_address_only(lab):
    """Agents' ports are bound to the node's own address, metrics to its loopback"""
    for node in range(1, lab.nodes + 1):
        sockets = lab.node(node, "ss", "-Hltnp").stdout
        bound = {line.split()[3].replace("[::ffff:172.30.0.1%d]" % node, "172.30.0.1%d" % node)
                 for line in sockets.splitlines() if "sluice-agent" in line}
        expect(bound == {f"172.30.0.1{node}:9470", "127.0.0.1:9471"}, f"node {node}: {sorted(bound)}")


def invalid_resources_are_refused(lab):
    """Invalid resources are refused by the API server, with the field and what it must be"""
    for name, manifest, words in refusals.BY_SCHEMA:
        result = lab.cluster("kubectl", "create", "-f", "-", text=manifest, check=False)
        expect(result.returncode != 0, f"{name}: was accepted")
        for word in words:
            expect(word in result.stderr, f"{name}: says nothing of '{word}': {result.stderr}")


def a_service_gets_an_address_and_traffic(lab):
    """A Service of type LoadBalancer gets an address from the pool, and clients near and far reach its pods"""
    lab.apply("pool.yaml")
    lab.apply("web.yaml")
    lab.rollout("deployment/web")
    wait_endpoints(lab, "web", 4)
    address = lab.service_address("web")
    expect(lab.addresses() == {WEB: [address]}, f"claims: {lab.addresses()}")
    for outside in (False, True):
        wait_for(f"an answer at {address}", lambda: lab.fetch(address, outside=outside), 20)
        report = lab.requests(address, count=800, outside=outside)
        expect(report["failed"] == 0, f"failed: {report['failures']}")
        expect(len(report["names"]) == 4, f"not all pods answered: {report['names']}")
    expect(lab.announcer(address), "no LoadBalancerNode lists the address")


def udp_reaches_the_pods(lab):
    """The same Service serves UDP"""
    address = lab.service_address("web")
    code = ("import socket, sys\n"
            "names = set()\n"
            "for i in range(200):\n"
            "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)\n"
            f"    s.sendto(b'ping %d' % i, ('{address}', 7)); answer = s.recv(2000).decode()\n"
            "    assert answer.endswith('\\nping %d' % i), answer\n"
            "    names.add(answer.split()[0])\n"
            "print(len(names))\n")
    expect(lab.client("python3", "-c", code).stdout.strip() == "4", "not all pods answered over UDP")


def events_tell_what_happened(lab):
    """The Service's events tell of its address"""
    def reasons():
        return {e["reason"] for e in lab.items("events") if e["involvedObject"]["name"] == "web" and e["involvedObject"]["kind"] == "Service"}
    wait_for("an EnsuredLoadBalancer event", lambda: "EnsuredLoadBalancer" in reasons(), 20)


def a_loadbalancer_splits_by_weight(lab):
    """A LoadBalancer splits 90/10 between two Services, whatever the number of their pods"""
    lab.apply("shop.yaml")
    lab.rollout("deployment/shop-v1", "deployment/shop-v2")
    lab.wait_condition("lb", "shop", "Programmed")
    address = address_of(lab, SHOP)
    report = lab.requests(address, count=4000)
    expect(report["failed"] == 0, f"failed: {report['failures']}")
    share = report["versions"].get("v1", 0) / report["requests"]
    expect(0.87 < share < 0.93, f"v1 has {share:.3f} of the requests: {report['versions']}")
    expect(len(report["names"]) == 5, f"not all pods answered: {report['names']}")


def a_weight_changes_at_once(lab):
    """A changed weight moves new connections and breaks none"""
    address = address_of(lab, SHOP)
    with lab.load(address):
        patch = {"spec": {"backends": [{"name": "v1", "service": {"name": "shop-v1"}, "weight": 50},
                                       {"name": "v2", "service": {"name": "shop-v2"}, "weight": 50}]}}
        lab.kubectl("patch", "lb", "shop", "--type=merge", "-p", json.dumps(patch))
        lab.wait_condition("lb", "shop", "Programmed")
        share = lab.requests(address, count=2000)["versions"]["v1"] / 2000
        expect(0.45 < share < 0.55, f"v1 has {share:.3f} of the new connections")
    lab.apply("shop.yaml")
    lab.wait_condition("lb", "shop", "Programmed")


def what_is_not_built_is_refused_by_a_condition(lab):
    """What is in the schema but not built is refused with NotSupported, and nothing of it is programmed"""
    for name, manifest, word in refusals.BY_CONDITION:
        lab.kubectl("apply", "-f", "-", text=manifest)
        found = lab.wait_condition("lb", name, "Accepted", "False", 20)
        expect(found["reason"] == "NotSupported" and word in found["message"], f"{name}: {found}")
        expect(("LoadBalancer", "default", name) not in lab.addresses(), f"{name}: has an address")
        lab.kubectl("delete", "lb", name, "--timeout=20s")


def scaling_up_and_down_fails_no_request(lab):
    """Scaling up and down under load: no request fails, and the new pods take their share"""
    address = lab.service_address("web")
    with lab.load(address):
        lab.kubectl("scale", "deployment", "web", "--replicas=8")
        lab.rollout("deployment/web")
        wait_names(lab, address, 8)
        lab.kubectl("scale", "deployment", "web", "--replicas=4")
        wait_for("four pods are left", lambda: len(lab.items("pods", "-l", "app=web")) == 4, 60)
    wait_names(lab, address, 4)


def a_rollout_fails_no_request(lab):
    """A rollout under load: no request fails"""
    address = lab.service_address("web")
    with lab.load(address) as load:
        lab.kubectl("set", "env", "deployment/web", "VERSION=v2")
        lab.rollout("deployment/web")
        wait_for("the old pods are gone", lambda: len(lab.items("pods", "-l", "app=web")) == 4, 60)
        lab.deliberate_pause(1)
    expect(set(load.report["versions"]) == {"v1", "v2"}, f"versions: {load.report['versions']}")


def an_agent_killed_under_load_fails_no_request(lab):
    """kill -9 of the announcing node's agent under load: no request fails, and it comes back"""
    address = lab.service_address("web")
    node = lab.announcer(address)
    killed = lab.agent_pid(node)
    with lab.load(address):
        lab.node(node, "kill", "-KILL", str(killed))
        wait_for("a new agent", lambda: lab.agent_pid(node) not in (None, killed), 30)
        agents_ready(lab)
        lab.deliberate_pause(2)
    expect(lab.announcer(address) == node, "the address moved")


def without_an_operator_traffic_and_addresses_stay(lab):
    """Operator deleted: traffic and addresses stay; a change made meanwhile takes effect when it is back"""
    before, address = lab.addresses(), lab.service_address("web")
    with lab.load(address):
        with operator_away(lab):
            lab.kubectl("scale", "deployment", "web", "--replicas=6")
            lab.rollout("deployment/web")
            wait_endpoints(lab, "web", 6)
            lab.deliberate_pause(3)
            expect(len(lab.requests(address, count=400)["names"]) == 4, "new pods got traffic without an operator")
        wait_names(lab, address, 6)
    expect(lab.addresses() == before, f"addresses moved: {before} -> {lab.addresses()}")
    lab.kubectl("scale", "deployment", "web", "--replicas=4")
    wait_names(lab, address, 4)


def an_exhausted_pool_is_told(lab):
    """An exhausted pool is told to whom it concerns; who has an address keeps it; who waits gets the next that is free"""
    before = lab.addresses()
    lab.apply(refusals.SMALL_POOL)
    first, second = refusals.WAITING
    lab.apply(first)
    lab.wait_condition("lb", "first", "AddressesAllocated")
    lab.apply(second)
    found = lab.wait_condition("lb", "second", "AddressesAllocated", "False", 20)
    expect("small" in found["message"], f"does not name the pool: {found}")
    lab.kubectl("delete", "lb", "first", "--timeout=30s")
    lab.wait_condition("lb", "second", "AddressesAllocated")
    lab.kubectl("delete", "lb", "second", "--timeout=30s")
    lab.kubectl("delete", "addresspool", "small", "--timeout=30s")
    wait_for("the address is given back", lambda: lab.addresses() == before, 20)


def a_deleted_service_gives_its_address_back(lab):
    """A deleted Service is gone at once, its address is free, and nothing answers there any more"""
    lab.apply(refusals.PASSING_SERVICE)
    address = lab.service_address("gone")
    wait_for("an answer", lambda: lab.fetch(address), 20)
    lab.kubectl("delete", "service", "gone", "--timeout=30s")
    wait_for("the claim is gone", lambda: ("Service", "default", "gone") not in lab.addresses(), 20)
    wait_for("no answer", lambda: lab.fetch(address) is None, 20)


def an_upgrade_fails_no_request(lab):
    """helm upgrade under load: no request fails, the keys and the addresses stay, the CRDs are upgraded"""
    def keys():
        return {s["metadata"]["name"]: s.get("data") for s in lab.items("secrets", "-n", NAMESPACE) if s["type"] == "Opaque"}
    before, data, address = lab.addresses(), keys(), lab.service_address("web")
    expect(len(data) == 3 and all(data.values()), f"Secrets without data: {data.keys()}")
    lab.kubectl("label", "crd", "loadbalancers.sluice.io", "app.kubernetes.io/part-of=changed", "--overwrite")
    with lab.load(address):
        lab.helm("upgrade", "sluice", CHART, "--namespace", NAMESPACE, "--wait", "--timeout", "180s", *VALUES, "--set", "log.level=debug")
        agents_ready(lab)
    part_of = lab.get("crd", "loadbalancers.sluice.io")["metadata"]["labels"].get("app.kubernetes.io/part-of")
    expect(part_of == "sluice", f"the CRD was not upgraded: part-of={part_of}")
    expect(keys() == data, "the Secrets were changed")
    expect(lab.addresses() == before, f"addresses moved: {before} -> {lab.addresses()}")


def a_lost_nodes_address_moves(lab):
    """The announcing node is lost: another node announces its addresses, and the claims stay"""
    before, address = lab.addresses(), lab.service_address("web")
    node = lab.announcer(address)
    lab.cluster("stop", str(node))
    start = time.monotonic()
    moved = wait_for("another node announces it", lambda: lab.announcer(address) not in (None, node) and lab.announcer(address), 90)
    wait_for("it answers", lambda: lab.fetch(address, seconds=1), 60)
    outage = time.monotonic() - start
    wait_for("the lost node's pods get no more requests", lambda: lab.requests(address, count=200)["failed"] == 0, 60)
    expect(lab.addresses() == before, f"addresses moved: {before} -> {lab.addresses()}")
    print(f"(node {node} to {moved}, {outage:.0f} s) ", end="")


def a_node_that_comes_back_takes_part_again(lab):
    """A node that comes back is programmed again, and takes no address from who has it now"""
    address = lab.service_address("web")
    now = lab.announcer(address)
    missing = next(n for n in range(1, lab.nodes + 1) if lab.cluster("node", str(n), "true", check=False).returncode != 0)
    with lab.load(address):
        lab.cluster("start", str(missing))
        lab.kubectl("wait", "node", f"node{missing}", "--for=condition=Ready", "--timeout=60s")
        agents_ready(lab)
        lab.kubectl("wait", "lbnode", f"node{missing}", "--for=condition=Programmed", "--timeout=60s")
    expect(lab.announcer(address) == now, "the address moved back")
    lab.rollout("deployment/web", "deployment/shop-v1", "deployment/shop-v2")
    lab.kubectl("rollout", "status", "deployment/sluice-operator", "-n", NAMESPACE, "--timeout=120s")


def expect_rights_and_use_agree(lab, account):
    rendered = lab.helm("template", "sluice", CHART, "--namespace", NAMESPACE).stdout
    rights = audit.granted(rendered, account)
    allowed, forbidden = audit.asked(lab.logs / "audit.log", account)
    expect(not forbidden, f"forbidden: {sorted(forbidden)}")
    expect(allowed, "nothing was asked for: is the audit log on?")
    unused = audit.idle(rights, allowed, account)
    expect(not unused, f"granted and never used: {sorted(unused)}")


def the_operators_rights_and_their_use_agree(lab):
    """The operator was never forbidden anything, and has no right without a use"""
    expect_rights_and_use_agree(lab, "sluice-operator")


def the_clean_ups_rights_and_their_use_agree(lab):
    """The clean-up was never forbidden anything, and had no right without a use"""
    expect_rights_and_use_agree(lab, "sluice-cleanup")


def an_uninstall_leaves_nothing(lab):
    """helm uninstall leaves no program, map, link, filter, state file or finalizer; what people wrote stays"""
    before = leftovers.kernel_objects(lab)
    expect(before, "no pinned maps were found before the uninstall")
    lab.helm("uninstall", "sluice", "--namespace", NAMESPACE, "--wait", "--timeout", "150s")
    wait_for("all pods are gone", lambda: not lab.items("pods", "-n", NAMESPACE), 60)
    leftovers.expect_none(lab, before)
    for kind in ("services", "loadbalancers", "addresspools"):
        for item in lab.items(kind, "-A"):
            expect(not item["metadata"].get("finalizers"), f"{kind} {item['metadata']['name']}: {item['metadata'].get('finalizers')}")
    for kind, name, condition in (("lb", "shop", "Programmed"), ("lb", "shop", "Announced"), ("addresspool", "public", "Ready")):
        found = lab.wait_condition(kind, name, condition, "False", 1)
        expect(found["reason"] == "Uninstalled", f"{kind} {name}: {found}")
    kinds = "secrets,leases,serviceaccounts,roles,rolebindings,jobs,daemonsets,deployments"
    left = lab.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name").split()
    expect(not [name for name in left if "sluice" in name], f"left in the namespace: {left}")
    left = lab.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name").split()
    expect(not [name for name in left if "sluice" in name], f"left in the cluster: {[name for name in left if 'sluice' in name]}")


def after_an_uninstall_services_can_be_deleted(lab):
    """Without Sluice no Service and no LoadBalancer is stuck in deletion"""
    lab.apply(refusals.PASSING_SERVICE)
    lab.kubectl("delete", "service", "gone", "--timeout=10s")
    lab.apply(refusals.WAITING[0])
    lab.kubectl("delete", "lb", "first", "--timeout=10s")


def a_second_install_finds_the_addresses(lab):
    """A second install finds every address as it was, and traffic flows"""
    before = lab.addresses()
    expect(WEB in before and SHOP in before, f"the claims are gone: {before}")
    install(lab)
    address = before[WEB][0]
    wait_for("the Service has its address", lambda: lab.service_address("web") == address, 60)
    lab.wait_condition("lb", "shop", "Programmed")
    for owner in (WEB, SHOP):
        report = lab.requests(before[owner][0], count=400)
        expect(report["failed"] == 0, f"{owner}: {report['failures']}")
    owned = {owner: before[owner] for owner in (WEB, SHOP)}
    wait_for(f"the claims are just these: {owned}", lambda: lab.addresses() == owned, 30)


ALL = [
    the_api_server_accepts_the_chart,
    values_that_cannot_work_are_refused,
    the_chart_installs,
    agents_have_no_more_rights_than_they_need,
    agents_listen_on_the_nodes_own_address_only,
    invalid_resources_are_refused,
    a_service_gets_an_address_and_traffic,
    udp_reaches_the_pods,
    events_tell_what_happened,
    a_loadbalancer_splits_by_weight,
    a_weight_changes_at_once,
    what_is_not_built_is_refused_by_a_condition,
    scaling_up_and_down_fails_no_request,
    a_rollout_fails_no_request,
    an_agent_killed_under_load_fails_no_request,
    without_an_operator_traffic_and_addresses_stay,
    an_exhausted_pool_is_told,
    a_deleted_service_gives_its_address_back,
    an_upgrade_fails_no_request,
    a_lost_nodes_address_moves,
    a_node_that_comes_back_takes_part_again,
    the_operators_rights_and_their_use_agree,  # before an uninstall: its roles are gone before its last pod
    an_uninstall_leaves_nothing,
    the_clean_ups_rights_and_their_use_agree,
    after_an_uninstall_services_can_be_deleted,
    a_second_install_finds_the_addresses,
]
# What the others stand on.
ALWAYS = [the_api_server_accepts_the_chart, the_chart_installs, a_service_gets_an_address_and_traffic, a_loadbalancer_splits_by_weight]
