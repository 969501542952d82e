# shellcheck shell=bash
# The nodes' cgroups, below one of the cluster's own, under version 1 or 2. Needs lib/cluster/settings.sh.

CGROUP_MOUNT=/sys/fs/cgroup

cgroup_version() {
  if [ "$(stat -f -c %T "$CGROUP_MOUNT")" = cgroup2fs ]; then printf 2; else printf 1; fi
}

# The folders that hold a hierarchy: one under version 2; under version 1 one per controller, and one of version 2 without
# controllers, where the container runtime makes cgroups, too.
cgroup_hierarchies() {
  if [ "$(cgroup_version)" = 2 ]; then
    printf '%s\n' "$CGROUP_MOUNT"
  else
    find "$CGROUP_MOUNT" -mindepth 1 -maxdepth 1 -type d
  fi
}

# Under version 2 a cgroup has the controllers that its parent hands down.
hand_down_controllers() {
  local controller
  for controller in cpuset cpu io memory hugetlb pids; do
    if grep -qw "$controller" "$1/cgroup.controllers"; then
      printf '+%s' "$controller" >"$1/cgroup.subtree_control" ||
        die "cannot hand the $controller controller down from $1: is this machine itself a container without cgroups of its own?"
    fi
  done
}

# Under version 1 a new cpuset is empty, and nothing can run in it until it is filled in.
fill_cpuset() {
  local file
  for file in cpuset.cpus cpuset.mems; do
    [ ! -e "$1/$file" ] || cat "$(dirname "$1")/$file" >"$1/$file"
  done
}

# create_cgroup NAME: NAME is relative to the cluster's own; its parent must be there.
create_cgroup() {
  local hierarchy
  for hierarchy in $(cgroup_hierarchies); do
    [ "$hierarchy" != "$CGROUP_MOUNT/unified" ] || continue
    [ "$(cgroup_version)" = 1 ] || hand_down_controllers "$(dirname "$hierarchy/$CLUSTER_CGROUP$1")"
    mkdir -p "$hierarchy/$CLUSTER_CGROUP$1"
    [ "$(cgroup_version)" = 2 ] || fill_cpuset "$hierarchy/$CLUSTER_CGROUP$1"
  done
}

cgroup_folders() {
  local hierarchy
  for hierarchy in $(cgroup_hierarchies); do
    [ ! -d "$hierarchy/$CLUSTER_CGROUP$1" ] || find "$hierarchy/$CLUSTER_CGROUP$1" -depth -type d
  done
}

# try_remove_cgroups NAME: its processes have been killed, but the kernel takes a moment to let go of them.
try_remove_cgroups() {
  local folder
  for folder in $(cgroup_folders "$1"); do
    rmdir "$folder" 2>/dev/null || true
  done
  [ -z "$(cgroup_folders "$1")" ]
}

remove_cgroups() { retry 20 try_remove_cgroups "$1" || die "these cgroups cannot be removed: $(cgroup_folders "$1")"; }
