# shellcheck shell=bash
# Which Kubernetes the laboratory cluster is made of, and where its binaries are. Needs lib/common.sh.
# The versions have one source: the go.mod files in hack/kube.

kube_module_version() { sed -nE "s#^require $2 (v[0-9.]+).*#\1#p" "$SLUICE_ROOT/hack/kube/$1/go.mod"; }

KUBE_VERSION=$(kube_module_version kubernetes k8s.io/kubernetes)
ETCD_VERSION=$(kube_module_version etcd go.etcd.io/etcd/server/v3)
HELM_VERSION=$(kube_module_version helm helm.sh/helm/v3)

# One folder per set of versions, and a link to the set in use.
KUBE_SET=$SLUICE_CACHE/kube/$KUBE_VERSION-etcd-$ETCD_VERSION-helm-$HELM_VERSION
KUBE_BIN=$SLUICE_CACHE/kube/bin

KUBE_PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
export KUBE_VERSION ETCD_VERSION HELM_VERSION KUBE_SET KUBE_BIN KUBE_PROGRAMS
