# shellcheck shell=bash
# One node: a machine as far as anybody in it can see. It has its own network, mounts, processes, host name and cgroup; its
# containerd, kubelet and kube-proxy run with their default paths. Needs lib/cluster/{settings,network,cgroups,certificates}.sh.

INIT_TEMPLATE=$SLUICE_ROOT/hack/lib/cluster/node-init

# init_pid NODE: its first process, as the machine outside numbers it; fails when the node does not run.
init_pid() {
  local pid
  pid=$(cat "$(node_dir "$1")/init.pid" 2>/dev/null) || return 1
  grep -qx "$pid" <(ip netns pids "$(node_namespace "$1")" 2>/dev/null) && printf '%s' "$pid"
}

# in_node NODE COMMAND...: as a shell on that machine would run it.
in_node() {
  local node=$1 pid
  pid=$(init_pid "$node") || die "node $node does not run (hack/cluster status)"
  shift
  nsenter --target "$pid" --net --mount --uts --ipc --pid "$@"
}

# Its first process: sets up the node's mounts, then waits. When it ends, the kernel ends all the node's processes, and with
# them its mounts, its bpffs and whatever was pinned there: pulling the plug is one signal.
start_init() {
  local dir
  dir=$(node_dir "$1")
  rm -f "$dir/init.pid"
  daemon "node$1" nsenter --net="/run/netns/$(node_namespace "$1")" \
    unshare --mount --uts --ipc --pid --fork --kill-child --propagation private \
    "$INIT_TEMPLATE" "$dir" "node$1" "$KUBE_BIN/pause"
  retry 10 find_init "$1" || die "node $1 does not start: see $CLUSTER_LOGS/node$1.log"
}

# The process whose parent is not in its PID namespace: number 1 inside.
find_init() {
  local pid dir
  dir=$(node_dir "$1")
  [ -e "$dir/ready" ] || return 1
  for pid in $(ip netns pids "$(node_namespace "$1")"); do
    [ "$(awk '/^NSpid:/ { print NF - 1, $NF }' "/proc/$pid/status" 2>/dev/null)" = "2 1" ] || continue
    printf '%s\n' "$pid" >"$dir/init.pid"
    return 0
  done
  return 1
}

write_cni_config() {
  cat >"$1/cni/10-pods.conflist" <<JSON
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "$(pod_range4 "$2")"}], [{"subnet": "$(pod_range6 "$2")"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
}

# Overlays cannot be stacked on an overlay (a machine that is itself a container): copies do there.
snapshotter() {
  if [ "$(stat -f -c %T "$CLUSTER_DIR")" = overlayfs ]; then printf native; else printf overlayfs; fi
}

# restrict_oom_score_adj: containerd may lack CAP_SYS_RESOURCE. disable_apparmor: no profile is loaded into the machine's kernel.
write_containerd_config() {
  cat >"$1/containerd.toml" <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$(snapshotter)"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$1/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
TOML
}

# Eviction is off and limits are not enforced: the disk and the memory are the machine's, shared by all nodes.
write_kubelet_config() {
  cat >"$1/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $(node_address4 "$2")
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet$2.crt
tlsPrivateKeyFile: $PKI/kubelet$2.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CLUSTER_CGROUP/node$2
enforceNodeAllocatable: [none]
failSwapOn: false
failCgroupV1: false
localStorageCapacityIsolation: false
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
nodeStatusReportFrequency: 30s
oomScoreAdj: 0
resolvConf: ""
YAML
}

# node_daemon NODE LOG COMMAND...
node_daemon() {
  local pid log=$2$1
  pid=$(init_pid "$1")
  shift 2
  daemon "$log" nsenter --target "$pid" --net --mount --uts --ipc --pid "$@"
}

start_containerd() {
  node_daemon "$1" containerd containerd --config "$(node_dir "$1")/containerd.toml"
  retry 30 in_node "$1" ctr version >/dev/null 2>&1 || die "containerd does not start: see $CLUSTER_LOGS/containerd$1.log"
  in_node "$1" ctr --namespace k8s.io images import "$IMAGES/pause.tar" >/dev/null
}

start_kubelet() {
  node_daemon "$1" kubelet "$KUBE_BIN/kubelet" --config="$(node_dir "$1")/kubelet.yaml" \
    --kubeconfig="$CLUSTER_DIR/node$1.kubeconfig" --hostname-override="node$1" \
    --node-ip="$(node_address4 "$1"),$(node_address6 "$1")"
}

# Limits of connection tracking are the machine's and not a namespace's to set.
start_proxy() {
  node_daemon "$1" proxy "$KUBE_BIN/kube-proxy" --kubeconfig="$CLUSTER_DIR/proxy.kubeconfig" --hostname-override="node$1" \
    --proxy-mode="${SLUICE_PROXY_MODE:-iptables}" --cluster-cidr="$POD_RANGES" --oom-score-adj=0 \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
}

# start_node NODE NODES: from nothing to running daemons.
start_node() {
  local dir
  dir=$(node_dir "$1")
  mkdir -p "$dir"/{cni,lib,log,cgroup}
  create_cgroup "/node$1"
  create_node_certificates "$1"
  connect_node "$1" "$2"
  write_cni_config "$dir" "$1"
  write_containerd_config "$dir"
  write_kubelet_config "$dir" "$1"
  start_init "$1"
  start_containerd "$1"
  start_kubelet "$1"
  start_proxy "$1"
}

# stop_node NODE: power off and cable out. What was on its disk stays, as on a machine that is switched off.
stop_node() {
  remove_namespace "$(node_namespace "$1")"
  remove_cgroups "/node$1"
  rm -f "$(node_dir "$1")"/{ready,init.pid}
}

node_ready() { [ "$(kubectl get node "node$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]; }
