# shellcheck shell=bash
# OCI images from files, without a registry, a base image or a build daemon. Needs lib/common.sh.
# The same files give the same image, to the last bit: the layer's order, owners and times are fixed.

IMAGES=$SLUICE_CACHE/images
export IMAGES

# libraries_of FILE: what it is linked with, the loader included, one path a line; nothing for a static program.
libraries_of() { ldd "$1" 2>/dev/null | grep -oE '/[^ ]+' || true; }

# image_key REF ENTRYPOINT SOURCE:DESTINATION...: changes when anything that goes into the image does.
image_key() {
  local pair library
  {
    printf '%s\n' "$@"
    cat "${BASH_SOURCE[0]}"
    for pair in "${@:3}"; do
      cat "${pair%%:*}"
      for library in $(libraries_of "${pair%%:*}"); do cat "$library"; done
    done
  } | sha256sum | cut -d' ' -f1
}

# fill_root ROOT SOURCE:DESTINATION...: the files, the libraries they need, and what libc asks for.
fill_root() {
  local root=$1 pair library
  shift
  mkdir -p "$root"/{etc,tmp}
  chmod 1777 "$root/tmp"
  printf 'root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  for pair in "$@"; do
    install -D -m 755 "${pair%%:*}" "$root${pair##*:}"
    for library in $(libraries_of "${pair%%:*}"); do install -D -m 755 "$library" "$root$library"; done
  done
}

# pack_layout LAYOUT LAYER REF ENTRYPOINT: an OCI layout of that one layer. ENTRYPOINT may be empty.
pack_layout() {
  local image=$1:image created=1970-01-01T00:00:00Z
  umoci init --layout "$1"
  umoci new --image "$image"
  umoci raw add-layer --image "$image" --history.created "$created" --history.created_by "$SLUICE_VERSION" "$2"
  umoci config --image "$image" --no-history --created "$created" --config.env PATH=/usr/bin:/bin \
    ${4:+--config.entrypoint "$4"}
  umoci gc --layout "$1"
  jq --arg ref "$3" '.manifests[0].annotations = {"org.opencontainers.image.ref.name": $ref, "io.containerd.image.name": $ref}' \
    "$1/index.json" >"$1/index.new"
  mv "$1/index.new" "$1/index.json"
}

# archive FOLDER OUT: the folder as a tar that depends on nothing but its contents.
archive() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu -C "$1" -cf "$2" .; }

# pack_image OUT REF ENTRYPOINT SOURCE:DESTINATION...: an OCI archive; does nothing when OUT holds just that already.
pack_image() {
  local out=$1 key work
  shift
  umask 022
  key=$(image_key "$@")
  [ ! -e "$out" ] || [ "$(cat "$out.key" 2>/dev/null)" != "$key" ] || return 0
  mkdir -p "$(dirname "$out")"
  work=$(mktemp -d)
  fill_root "$work/root" "${@:3}"
  archive "$work/root" "$work/layer.tar"
  pack_layout "$work/layout" "$work/layer.tar" "$1" "$2"
  archive "$work/layout" "$out.new"
  rm -rf "$work"
  mv "$out.new" "$out"
  printf '%s\n' "$key" >"$out.key"
}
