# shellcheck shell=bash
# The cluster's certificates: one CA, and a certificate for everybody who speaks to the API server. Needs lib/cluster/settings.sh.

PKI=$CLUSTER_DIR/pki

# certificate FILE SUBJECT USAGE [ALTERNATIVE-NAMES]: USAGE is clientAuth or serverAuth.
certificate() {
  local names=()
  [ -z "${4:-}" ] || names=(-addext "subjectAltName=$4")
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" \
    -subj "$2" -addext "extendedKeyUsage=$3" -addext basicConstraints=critical,CA:FALSE "${names[@]}" \
    -keyout "$PKI/$1.key" -out "$PKI/$1.crt" 2>/dev/null
}

# kubeconfig FILE CERTIFICATE
kubeconfig() {
  cat >"$1" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: $CLUSTER_NAME
  cluster: {server: "$API_URL", certificate-authority: $PKI/ca.crt}
users:
- name: $2
  user: {client-certificate: $PKI/$2.crt, client-key: $PKI/$2.key}
contexts:
- name: $CLUSTER_NAME
  context: {cluster: $CLUSTER_NAME, user: $2}
current-context: $CLUSTER_NAME
YAML
}

# client NAME SUBJECT: a certificate and the kubeconfig that uses it.
client() {
  certificate "$1" "$2" clientAuth
  kubeconfig "$CLUSTER_DIR/$1.kubeconfig" "$1"
}

create_certificates() {
  mkdir -p "$PKI"
  chmod 700 "$PKI"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$CLUSTER_NAME laboratory" \
    -keyout "$PKI/ca.key" -out "$PKI/ca.crt" 2>/dev/null
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$PKI/service-accounts.key" 2>/dev/null
  certificate apiserver /CN=kube-apiserver serverAuth \
    "IP:$ROUTER4,IP:127.0.0.1,IP:$API_SERVICE,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  client admin /O=system:masters/CN=admin
  client controller-manager /CN=system:kube-controller-manager
  client scheduler /CN=system:kube-scheduler
  client proxy /CN=system:kube-proxy
}

# create_node_certificates NODE: for its kubelet, as a client and as a server.
create_node_certificates() {
  client "node$1" "/O=system:nodes/CN=system:node:node$1"
  certificate "kubelet$1" "/CN=system:node:node$1" serverAuth "IP:$(node_address4 "$1"),DNS:node$1"
}
