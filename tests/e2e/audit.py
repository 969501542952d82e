"""What RBAC grants to the chart's service accounts, and what of it they have used, by the API server's audit log."""

import json

import yaml

# Rights that a healthy run does not use, and what they are for.
STREAMED = ["services", "endpointslices", "servicecidrs", "nodes", "namespaces", "secrets", "loadbalancers", "addresspools", "addressclaims",
            "loadbalancernodes"]
FOR_OTHER_DAYS = {
    "sluice-operator": {(resource, "list"): "servers that do not stream lists" for resource in STREAMED} | {
        ("events", "patch"): "an event repeats",
        ("addressclaims", "update"): "the owners of an address change",
        ("loadbalancernodes", "delete"): "a node is taken out of the cluster",
    },
    "sluice-cleanup": {("services", "get"): "a Service changes meanwhile"},
}


def idle(rights, used, account):
    """Those of `rights` that were not used and that no other day needs."""
    return {(group, resource, verb) for group, resource, verb in rights - used if (resource, verb) not in FOR_OTHER_DAYS[account]}


def granted(rendered, account):
    """{(group, resource, verb)} of the rules of an account's roles, which are named after it."""
    rights = set()
    for document in yaml.safe_load_all(rendered):
        if document and document["kind"] in ("ClusterRole", "Role") and document["metadata"]["name"] == account:
            for rule in document["rules"]:
                rights |= {(g, r, v) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    return rights


def asked(log, account):
    """What an account asked for: ({(group, resource, verb)} that was allowed, the same that was forbidden)."""
    allowed, forbidden = set(), set()
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        reference = event.get("objectRef")
        if not reference or event["user"]["username"].rsplit(":", 1)[-1] != account:
            continue
        resource = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
        right = (reference.get("apiGroup", ""), resource, event["verb"])
        (forbidden if event.get("responseStatus", {}).get("code") == 403 else allowed).add(right)
    return allowed, forbidden
