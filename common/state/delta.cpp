#include "common/state/delta.h"

namespace sluice::state {

namespace {

// Appends to `upserts` what `to` has anew or otherwise, to `deletes` the keys that only `from` has.
template <typename Key, typename Value>
void compare(const std::map<Key, Value>& from, const std::map<Key, Value>& to, std::vector<Value>& upserts,
             std::vector<Key>& deletes) {
  auto before = from.begin();
  for (const auto& [key, value] : to) {
    for (; before != from.end() && before->first < key; ++before) deletes.push_back(before->first);
    if (before != from.end() && before->first == key) {
      if (!(before->second == value)) upserts.push_back(value);
      ++before;
    } else {
      upserts.push_back(value);
    }
  }
  for (; before != from.end(); ++before) deletes.push_back(before->first);
}

template <typename Key, typename Value, typename KeyOf>
void change(std::map<Key, Value>& entries, const std::vector<Value>& upserts, const std::vector<Key>& deletes,
            KeyOf key_of) {
  for (const Key& key : deletes) entries.erase(key);
  for (const Value& value : upserts) entries.insert_or_assign(key_of(value), value);
}

}  // namespace

bool Delta::empty() const {
  return !tunnel && upsert_services.empty() && delete_services.empty() && upsert_nodes.empty() &&
         delete_nodes.empty() && upsert_announcements.empty() && delete_announcements.empty();
}

std::optional<Delta> make_delta(const DesiredState& from, const DesiredState& to) {
  return make_delta(from, digest(from), to, digest(to));
}

std::optional<Delta> make_delta(const DesiredState& from, const Digest& from_digest, const DesiredState& to,
                                const Digest& to_digest) {
  if (from.cluster_id != to.cluster_id || from.flow_hash_key != to.flow_hash_key) return std::nullopt;
  Delta delta;
  delta.from = from_digest;
  delta.to = to_digest;
  delta.epoch = to.epoch;
  delta.revision = to.revision;
  if (from.tunnel != to.tunnel) delta.tunnel = to.tunnel;
  compare(from.services, to.services, delta.upsert_services, delta.delete_services);
  compare(from.nodes, to.nodes, delta.upsert_nodes, delta.delete_nodes);
  compare(from.announcements, to.announcements, delta.upsert_announcements, delta.delete_announcements);
  return delta;
}

Result<DesiredState> apply_delta(const DesiredState& base, const Delta& delta) {
  const auto refuse = [&](const char* reason) {
    return fail(ErrorKind::invalid, "apply delta", "to revision " + std::to_string(delta.revision), reason);
  };
  if (digest(base) != delta.from) return refuse("it starts from another content than what is held");
  DesiredState state = base;
  state.epoch = delta.epoch;
  state.revision = delta.revision;
  if (delta.tunnel) state.tunnel = *delta.tunnel;
  change(state.services, delta.upsert_services, delta.delete_services, [](const Service& s) { return s.id; });
  change(state.nodes, delta.upsert_nodes, delta.delete_nodes, [](const Node& n) { return n.name; });
  change(state.announcements, delta.upsert_announcements, delta.delete_announcements,
         [](const Announcement& a) { return a.address; });
  if (digest(state) != delta.to) return refuse("the outcome has another digest than the sender's");
  return state;
}

}  // namespace sluice::state
