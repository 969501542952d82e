# shellcheck shell=bash
# etcd, API server, controller manager and scheduler, in the control namespace. Needs lib/cluster/{settings,network}.sh.

# How long a silent node stays Ready, and how long the demo and the tests wait for one that was lost.
NODE_GRACE=20s

# daemon LOG COMMAND...: runs on after this script; its output is in the cluster's log folder. Descriptors of this script
# must not stay open in it.
daemon() {
  local log=$CLUSTER_LOGS/$1.log
  shift
  (cd "$CLUSTER_DIR" && exec setsid -f "$@" >>"$log" 2>&1 </dev/null 9>&-)
}

start_etcd() {
  daemon etcd nsenter --net="/run/netns/$CONTROL" "$KUBE_BIN/etcd" --data-dir="$CLUSTER_DIR/etcd" --unsafe-no-fsync \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
    --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
    --initial-cluster=default=http://127.0.0.1:2380
}

# Who among the pods asked for what: the tests compare it with what RBAC grants.
write_audit_policy() {
  cat >"$CLUSTER_DIR/audit-policy.yaml" <<YAML
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
YAML
}

start_apiserver() {
  write_audit_policy
  local flags=(
    --etcd-servers=http://127.0.0.1:2379
    --bind-address="$ROUTER4" --advertise-address="$ROUTER4" --secure-port=6443
    --cert-dir="$PKI" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key"
    --client-ca-file="$PKI/ca.crt"
    --service-account-issuer=https://kubernetes.default.svc
    --service-account-key-file="$PKI/service-accounts.key" --service-account-signing-key-file="$PKI/service-accounts.key"
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP
    --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" --kubelet-client-key="$PKI/apiserver-kubelet-client.key"
    "--authorization-mode=Node,RBAC" --enable-admission-plugins=NodeRestriction --allow-privileged=true
    --service-cluster-ip-range="$SERVICE_RANGES"
    --audit-policy-file="$CLUSTER_DIR/audit-policy.yaml" --audit-log-path="$CLUSTER_LOGS/audit.log"
    --enable-aggregator-routing=true # no kube-proxy here: services are reached by their endpoints
  )
  daemon apiserver nsenter --net="/run/netns/$CONTROL" "$KUBE_BIN/kube-apiserver" "${flags[@]}"
}

start_controller_manager() {
  daemon controller-manager nsenter --net="/run/netns/$CONTROL" "$KUBE_BIN/kube-controller-manager" \
    --kubeconfig="$CLUSTER_DIR/controller-manager.kubeconfig" --bind-address=127.0.0.1 --cert-dir="$PKI/controller-manager" \
    --service-account-private-key-file="$PKI/service-accounts.key" --root-ca-file="$PKI/ca.crt" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --use-service-account-credentials=true --leader-elect=false --node-monitor-grace-period="$NODE_GRACE"
}

start_scheduler() {
  daemon scheduler nsenter --net="/run/netns/$CONTROL" "$KUBE_BIN/kube-scheduler" \
    --kubeconfig="$CLUSTER_DIR/scheduler.kubeconfig" --bind-address=127.0.0.1 --cert-dir="$PKI/scheduler" --leader-elect=false
}

# kubectl from the control namespace, as the administrator. Files are read from here.
kubectl() { in_namespace "$CONTROL" "$KUBE_BIN/kubectl" --kubeconfig "$CLUSTER_DIR/admin.kubeconfig" "$@"; }

api_ready() { kubectl get --raw /readyz >/dev/null 2>&1; }

start_control_plane() {
  start_etcd
  start_apiserver
  retry 60 api_ready || die "the API server does not become ready: see $CLUSTER_LOGS/apiserver.log"
  start_controller_manager
  start_scheduler
}
