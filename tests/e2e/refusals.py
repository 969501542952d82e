"""Manifests for the cases: what is refused, and how, and some that come and go."""


def load_balancer(name, spec):
    return f"apiVersion: sluice.io/v1alpha1\nkind: LoadBalancer\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def pool(name, spec):
    return f"apiVersion: sluice.io/v1alpha1\nkind: AddressPool\nmetadata: {{name: {name}}}\nspec: {spec}\n"


PORTS = "ports: [{name: http, port: 80}]"
BACKENDS = "backends: [{name: web, service: {name: web}}]"

# (what is wrong, manifest, words of the answer)
BY_SCHEMA = [
    ("no such address", load_balancer("bad", f"{{addresses: [192.0.2.300], {PORTS}, {BACKENDS}}}"), ["spec.addresses[0]"]),
    ("a port out of range", load_balancer("bad", f"{{ports: [{{name: http, port: 70000}}], {BACKENDS}}}"), ["spec.ports[0].port", "65535"]),
    ("a weight out of range",
     load_balancer("bad", f"{{{PORTS}, backends: [{{name: web, service: {{name: web}}, weight: 1001}}]}}"), ["weight", "1000"]),
    ("a backend that is both a Service and an address",
     load_balancer("bad", f"{{{PORTS}, backends: [{{name: web, service: {{name: web}}, address: 198.51.100.7}}]}}"), ["spec.backends[0]"]),
    ("a backend that is nothing", load_balancer("bad", f"{{{PORTS}, backends: [{{name: web}}]}}"), ["spec.backends[0]"]),
    ("two backends of one name",
     load_balancer("bad", f"{{{PORTS}, backends: [{{name: a, service: {{name: a}}}}, {{name: a, service: {{name: b}}}}]}}"), ["Duplicate"]),
    ("no ports", load_balancer("bad", f"{{{BACKENDS}}}"), ["spec.ports"]),
    ("an unknown field", load_balancer("bad", f"{{{PORTS}, {BACKENDS}, colour: blue}}"), ["colour"]),
    ("a prefix with host bits", pool("bad", "{addresses: [192.0.2.1/24]}"), ["spec.addresses[0]", "host bits"]),
    ("a range of two families", pool("bad", '{addresses: ["192.0.2.1-2001:db8::1"]}'), ["spec.addresses[0]"]),
    ("a pool of nothing", pool("bad", "{addresses: []}"), ["spec.addresses"]),
]

# (name, manifest, a word of the condition's message)
BY_CONDITION = [
    ("probed", load_balancer("probed", f"{{healthCheck: {{tcp: {{}}}}, {PORTS}, {BACKENDS}}}"), "healthCheck"),
    ("shared", load_balancer("shared", f"{{sharingKey: web, {PORTS}, {BACKENDS}}}"), "sharingKey"),
]

SMALL_POOL = pool("small", "{addresses: [192.0.2.200], autoAssign: false}")
WAITING = [load_balancer(name, f"{{addressPools: [small], {PORTS}, {BACKENDS}}}") for name in ("first", "second")]

PASSING_SERVICE = """apiVersion: v1
kind: Service
metadata: {name: gone}
spec:
  type: LoadBalancer
  loadBalancerClass: sluice.io/xdp
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
"""
