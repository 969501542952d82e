"""The laboratory cluster as the end-to-end tests see it: commands, waiting, load."""

import contextlib
import json
import os
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "tests" / "e2e"
CLUSTER = str(ROOT / "hack" / "cluster")
NAMESPACE = "sluice-system"


class Failure(Exception):
    """What a test expected and did not find."""


def expect(condition, text):
    if not condition:
        raise Failure(text)


def run(*command, text=None, check=True, timeout=300):
    """Runs a command and returns its output; a failure carries both of its streams."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout)
    if check and result.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def wait_for(text, condition, seconds=60, pause=0.2):
    """Waits until `condition` returns something true, and returns that. What it last raised is told when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        last = None
        try:
            value = condition()
            if value:
                return value
        except Failure as failure:
            last = failure
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {text}" + (f" ({last})" if last else ""))
        time.sleep(pause)


class Load:
    """A load generator that runs in the background; `stop` ends it and returns its report."""

    def __init__(self, process):
        self.process = process
        self.report = None

    def stop(self):
        if self.report is None:
            output, errors = self.process.communicate(timeout=60)
            expect(self.process.returncode == 0, f"the load generator failed: {errors}")
            self.report = json.loads(output)
        return self.report


def logs_folder():
    """Where hack/ puts its logs (hack/lib/common.sh)."""
    cache = os.environ.get("SLUICE_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sluice")
    return pathlib.Path(os.environ.get("SLUICE_LOGS") or os.path.join(cache, "log"))


class Lab:
    def __init__(self, name, nodes):
        self.nodes = nodes
        self.logs = logs_folder() / f"cluster-{name}"
        os.environ["SLUICE_CLUSTER_NAME"] = name

    def cluster(self, *arguments, **options):
        return run(CLUSTER, *arguments, **options)

    def kubectl(self, *arguments, **options):
        return self.cluster("kubectl", *arguments, **options).stdout

    def helm(self, *arguments, **options):
        return self.cluster("helm", *arguments, **options)

    def node(self, number, *command, **options):
        return self.cluster("node", str(number), *command, **options)

    def client(self, *command, outside=False, **options):
        return self.cluster("outside" if outside else "client", *command, **options)

    def apply(self, manifest):
        """A file of hack/manifests, or the text of one."""
        text = manifest if "\n" in manifest else (ROOT / "hack" / "manifests" / manifest).read_text()
        return self.kubectl("apply", "-f", "-", text=text)

    def get(self, *arguments):
        """`kubectl get` as data; None where there is no such object."""
        text = self.kubectl("get", *arguments, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def items(self, *arguments):
        return (self.get(*arguments) or {"items": []})["items"]

    def condition(self, kind, name, condition, *arguments):
        """A condition as {status, reason, message, observedGeneration}; an empty one where it is not there."""
        found = self.get(kind, name, *arguments)
        conditions = (found or {}).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == condition), {})

    def wait_condition(self, kind, name, condition, status="True", seconds=60):
        """Waits for a condition at the object's own generation, and returns it."""
        def reached():
            now = self.condition(kind, name, condition)
            wanted = self.get(kind, name)["metadata"].get("generation", 0)
            return now if now.get("status") == status and now.get("observedGeneration", wanted) == wanted else None
        try:
            return wait_for(f"{kind}/{name} {condition}={status}", reached, seconds)
        except Failure as failure:
            raise Failure(f"{failure}; it is {self.condition(kind, name, condition) or 'not there'}") from failure

    def rollout(self, *workloads, seconds=120):
        for workload in workloads:
            self.kubectl("rollout", "status", workload, f"--timeout={seconds}s")

    def service_address(self, name, seconds=60):
        """The address in a Service's status, waited for."""
        def address():
            ingress = self.get("service", name)["status"].get("loadBalancer", {}).get("ingress") or []
            return ingress[0]["ip"] if ingress else None
        return wait_for(f"service {name} has an address", address, seconds)

    def addresses(self):
        """Who has which address: {(kind, namespace, name): [addresses]}, from the claims."""
        owned = {}
        for claim in self.items("addressclaims"):
            for owner in claim["spec"]["owners"]:
                owned.setdefault((owner["kind"], owner["namespace"], owner["name"]), []).append(claim["spec"]["address"])
        return {owner: sorted(addresses) for owner, addresses in sorted(owned.items())}

    def announcer(self, address):
        """The number of the node that announces an address, by its LoadBalancerNode; None where there is none."""
        def listing():
            nodes = [node for node in self.items("loadbalancernodes") if address in node.get("status", {}).get("addresses", [])]
            return [int(node["metadata"]["name"].removeprefix("node")) for node in nodes]

        # Statuses are written one by one: while an address moves, two may list it for a moment.
        wait_for(f"no two nodes list {address}", lambda: len(listing()) < 2, 10)
        return next(iter(listing()), None)

    def fetch(self, address, port=80, outside=False, seconds=2):
        """One request from a client; its line, or None."""
        result = self.client("curl", "-s", "--max-time", str(seconds), f"http://{address}:{port}/", outside=outside, check=False)
        return result.stdout.strip() if result.returncode == 0 else None

    def requests(self, address, port=80, count=2000, outside=False, **options):
        """So many requests on fresh connections; the load generator's report."""
        arguments = ["--kept", "0", "--fresh", "16", "--requests", str(count), "--pause", "0"]
        output = self.client("python3", str(HERE / "load.py"), *arguments, address, str(port), outside=outside, **options)
        return json.loads(output.stdout)

    @contextlib.contextmanager
    def load(self, address, port=80, kept=24, fresh=8, pause=0.01):
        """Continuous load while the block runs. Every failed request fails the test."""
        command = [CLUSTER, "client", "python3", str(HERE / "load.py"), "--kept", str(kept), "--fresh", str(fresh),
                   "--pause", str(pause), address, str(port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        load = Load(process)
        try:
            time.sleep(1)  # connections are up and busy before anything happens to them
            yield load
        except BaseException:
            with contextlib.suppress(Exception):
                load.stop()
            raise
        report = load.stop()
        expect(report["requests"] > 500, f"the load was hardly any: {report}")
        expect(report["failed"] == 0, f"{report['failed']} of {report['requests']} requests failed: {report['failures']}")

    def pods(self, component):
        return self.items("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/component={component}")

    def agent_pod(self, node):
        return next(pod for pod in self.pods("agent") if pod["spec"]["nodeName"] == f"node{node}")

    def agent_pid(self, node):
        """The agent's process as its node numbers it; None when it does not run."""
        found = self.node(node, "pgrep", "-x", "sluice-agent", check=False).stdout.split()
        return int(found[0]) if found else None

    def deliberate_pause(self, seconds):
        """Lets load run on: for what must *not* happen there is nothing to wait for."""
        time.sleep(seconds)
