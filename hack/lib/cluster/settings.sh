# shellcheck shell=bash
# The laboratory cluster's names and addresses. Needs lib/common.sh and lib/kube.sh.
#
# Everything that a cluster makes bears its name: two clusters of different names run side by side, with the same addresses,
# since each has its own wire.

CLUSTER_NAME=${SLUICE_CLUSTER_NAME:-sluice}
[[ $CLUSTER_NAME =~ ^[a-z][a-z0-9]{0,19}$ ]] || die "SLUICE_CLUSTER_NAME must be up to 20 small letters and digits, not '$CLUSTER_NAME'"
CLUSTER_DIR=$SLUICE_CACHE/cluster/$CLUSTER_NAME
CLUSTER_LOGS=$SLUICE_LOGS/cluster-$CLUSTER_NAME
CLUSTER_CGROUP=sluice-lab-$CLUSTER_NAME
MAX_NODES=50

# The segment all nodes and the near client are on; the control plane's namespace holds its bridge and is its router.
ROUTER4=172.30.0.1
ROUTER6=fd30::1
node_address4() { printf '172.30.0.%d' $((10 + $1)); }
node_address6() { printf 'fd30::%d' $((10 + $1)); }
pod_range4() { printf '10.244.%d.0/24' "$1"; }
pod_range6() { printf 'fd44:0:0:%x::/64' "$1"; }
POD_RANGES=10.244.0.0/16,fd44::/48
SERVICE_RANGES=10.96.0.0/16,fd96::/112
API_SERVICE=10.96.0.1
API_URL=https://$ROUTER4:6443

# Clients: one on the segment, one in another network behind the router.
CLIENT4=172.30.0.200
CLIENT6=fd30::c8
OUTSIDE4=203.0.113.9
OUTSIDE6=fd51::9
OUTSIDE_ROUTER4=203.0.113.1
OUTSIDE_ROUTER6=fd51::1

# Load balancer addresses for pools: on the segment for the near client and for the router, no node's subnet.
LB_RANGE4=192.0.2.0/24

PAUSE_IMAGE=registry.k8s.io/pause:3.10.1

# Network namespaces. Only those recorded in $CLUSTER_DIR/namespaces are ever deleted.
CONTROL=$CLUSTER_NAME-control
CLIENT=$CLUSTER_NAME-client
OUTSIDE=$CLUSTER_NAME-outside
node_namespace() { printf '%s-node%d' "$CLUSTER_NAME" "$1"; }
node_dir() { printf '%s/node%d' "$CLUSTER_DIR" "$1"; }

export CLUSTER_NAME CLUSTER_DIR CLUSTER_LOGS CLUSTER_CGROUP MAX_NODES ROUTER4 ROUTER6 POD_RANGES SERVICE_RANGES API_SERVICE \
  API_URL CLIENT4 CLIENT6 OUTSIDE4 OUTSIDE6 OUTSIDE_ROUTER4 OUTSIDE_ROUTER6 LB_RANGE4 PAUSE_IMAGE CONTROL CLIENT OUTSIDE
