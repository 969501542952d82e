# shellcheck shell=bash
# The wire: namespaces, one bridge, the router, the clients. Needs lib/cluster/settings.sh.

# in_namespace NAMESPACE COMMAND...: enters the network namespace only. ("ip netns exec" would mount a fresh /sys and hide
# bpffs.)
in_namespace() {
  local namespace=$1
  shift
  nsenter --net="/run/netns/$namespace" "$@"
}

namespaces() { cat "$CLUSTER_DIR/namespaces" 2>/dev/null || true; }

# A namespace is recorded before it is made: whatever happens in between, "down" finds it.
add_namespace() {
  if ! grep -qx "$1" <(namespaces); then
    [ ! -e "/run/netns/$1" ] || die "network namespace $1 exists and is not ours: remove it, or set SLUICE_CLUSTER_NAME"
    printf '%s\n' "$1" >>"$CLUSTER_DIR/namespaces"
  fi
  ip netns add "$1"
  in_namespace "$1" ip link set lo up
}

# Every process in a namespace that we made is ours. A node's first process takes all of its pods with it.
kill_namespace() {
  local pids deadline=$((SECONDS + 20))
  while [ -e "/run/netns/$1" ]; do
    pids=$(ip netns pids "$1" 2>/dev/null || true)
    [ -n "$pids" ] || return 0
    [ "$SECONDS" -lt "$deadline" ] || die "these processes in namespace $1 do not end: ${pids//$'\n'/ }"
    # shellcheck disable=SC2086 # a list of process ids
    kill -KILL $pids 2>/dev/null || true
    sleep 0.05
  done
}

remove_namespace() {
  kill_namespace "$1"
  [ ! -e "/run/netns/$1" ] || ip netns delete "$1"
}

# The XDP program that only passes: what makes the far end of a veth take frames that XDP sends.
build_pass_program() {
  clang -O2 -g -target bpf -c "$SLUICE_ROOT/hack/lib/cluster/pass.bpf.c" -o "$CLUSTER_DIR/pass.o"
}

# plug NAMESPACE PORT: eth0 of the namespace, and the PORT it leads to in the control namespace, made to behave as a wire:
# frames leave with finished checksums, and frames sent by XDP at one end arrive at the other.
plug() {
  ip link add eth0 netns "$1" type veth peer name "$2" netns "$CONTROL"
  in_namespace "$1" ethtool -K eth0 tx off >/dev/null
  in_namespace "$CONTROL" ethtool -K "$2" tx off >/dev/null
  in_namespace "$CONTROL" ip link set "$2" xdpdrv obj "$CLUSTER_DIR/pass.o" sec xdp
  in_namespace "$CONTROL" ip link set "$2" up
}

# address NAMESPACE IPV4 IPV6 ROUTER4 ROUTER6
address() {
  in_namespace "$1" ip addr add "$2/24" dev eth0
  in_namespace "$1" ip -6 addr add "$3/64" dev eth0 nodad
  in_namespace "$1" ip link set eth0 up
  in_namespace "$1" ip route add default via "$4"
  in_namespace "$1" ip -6 route add default via "$5"
}

forwarding_on() {
  in_namespace "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
}

# attach NAMESPACE PORT IPV4 IPV6: a machine on the segment.
attach() {
  plug "$1" "$2"
  in_namespace "$CONTROL" ip link set "$2" master br0
  address "$1" "$3" "$4" "$ROUTER4" "$ROUTER6"
}

create_segment() {
  add_namespace "$CONTROL"
  in_namespace "$CONTROL" ip link add br0 type bridge
  in_namespace "$CONTROL" ip addr add "$ROUTER4/24" dev br0
  in_namespace "$CONTROL" ip -6 addr add "$ROUTER6/64" dev br0 nodad
  in_namespace "$CONTROL" ip link set br0 up
  in_namespace "$CONTROL" ip route add "$LB_RANGE4" dev br0
  forwarding_on "$CONTROL"
}

create_clients() {
  add_namespace "$CLIENT"
  attach "$CLIENT" port-client "$CLIENT4" "$CLIENT6"
  in_namespace "$CLIENT" ip route add "$LB_RANGE4" dev eth0

  add_namespace "$OUTSIDE"
  plug "$OUTSIDE" port-outside
  in_namespace "$CONTROL" ip addr add "$OUTSIDE_ROUTER4/24" dev port-outside
  in_namespace "$CONTROL" ip -6 addr add "$OUTSIDE_ROUTER6/64" dev port-outside nodad
  address "$OUTSIDE" "$OUTSIDE4" "$OUTSIDE6" "$OUTSIDE_ROUTER4" "$OUTSIDE_ROUTER6"
}

# route_pods NAMESPACE NODE: the routed pod network, by hand, as a cloud's or a router's table would hold it.
route_pods() {
  in_namespace "$1" ip route replace "$(pod_range4 "$2")" via "$(node_address4 "$2")"
  in_namespace "$1" ip -6 route replace "$(pod_range6 "$2")" via "$(node_address6 "$2")"
}

# connect_node NODE NODES: the node's namespace, its place on the segment, and the routes between its pods and the others.
connect_node() {
  local namespace other
  namespace=$(node_namespace "$1")
  add_namespace "$namespace"
  attach "$namespace" "port-node$1" "$(node_address4 "$1")" "$(node_address6 "$1")"
  forwarding_on "$namespace"
  in_namespace "$namespace" sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1 2>/dev/null || true
  route_pods "$CONTROL" "$1"
  for other in $(seq "$2"); do
    [ "$other" -eq "$1" ] || route_pods "$namespace" "$other"
  done
}
