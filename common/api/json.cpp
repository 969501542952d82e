#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/api/convert.h"
#include "common/api/findings.h"

namespace sluice::api {

namespace {

using Json = nlohmann::json;
using Out = nlohmann::ordered_json;  // keeps the order of the fields as written here

// --- names of choices, in the order of the enumerations

constexpr std::array kForwarding = {"Auto", "NAT", "Tunnel", "Direct"};
constexpr std::array kAffinity = {"None", "ClientIP"};
constexpr std::array kTrafficPolicy = {"Cluster", "Local"};

// For Backend::joined: as a number it would be one that many readers round.
constexpr const char* kNotYet = "NotYet";

// --- writing

template <typename List>
Out texts(const List& items) {
  Out result = Out::array();
  for (const auto& item : items) result.push_back(item.to_string());
  return result;
}

Out to_out(const state::Service& service) {
  Out groups = Out::array();
  for (const auto& group : service.groups) groups.push_back({{"name", group.name}, {"weight", group.weight}});
  Out backends = Out::array();
  for (const auto& backend : service.backends) {
    backends.push_back({{"address", backend.address.to_string()},
                        {"port", backend.port},
                        {"group", backend.group},
                        {"node", backend.node},
                        {"zone", backend.zone},
                        {"joined", backend.joined == state::kNotYet ? Out(kNotYet) : Out(backend.joined)},
                        {"left", backend.left}});
  }
  Out sizes = Out::array();
  for (const auto& size : service.sizes) sizes.push_back({{"from", size.from}, {"log2", size.log2}});
  return {{"id", service.id},
          {"addresses", texts(service.addresses)},
          {"port", service.port},
          {"protocol", state::to_string(service.protocol)},
          {"forwarding", kForwarding.at(static_cast<size_t>(service.forwarding))},
          {"affinity", kAffinity.at(static_cast<size_t>(service.affinity))},
          {"affinitySeconds", service.affinity_seconds},
          {"trafficPolicy", kTrafficPolicy.at(static_cast<size_t>(service.traffic_policy))},
          {"allowedSources", texts(service.allowed_sources)},
          {"drainSeconds", service.drain_seconds},
          {"groups", std::move(groups)},
          {"backends", std::move(backends)},
          {"sizes", std::move(sizes)}};
}

Out to_out(const state::Node& node) {
  return {{"name", node.name}, {"addresses", texts(node.addresses)}, {"sourceAddresses", texts(node.source_addresses)}};
}

Out to_out(const state::Announcement& announcement) {
  return {{"address", announcement.address.to_string()},
          {"nodes", announcement.nodes},
          {"interfaces", announcement.interfaces}};
}

// Text that is not UTF-8 is written with replacement characters: there is no other way to put it into JSON.
std::string dump(const Out& value) {
  return value.dump(-1, ' ', false, Out::error_handler_t::replace);
}

// One document tree a line, never the whole: a large state's tree would take many times the room of its text.
template <typename Entries>
void section(std::string& out, const char* name, const Entries& entries) {
  out += ",\n\"" + std::string(name) + "\": [";
  const char* separator = "\n  ";
  for (const auto& [key, value] : entries) {
    out += separator + dump(to_out(value));
    separator = ",\n  ";
  }
  out += entries.empty() ? "]" : "\n]";
}

// Hexadecimal text: many readers of JSON keep only 53 bits of a number.
std::string key_text(uint64_t word) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%016" PRIx64, word);
  return text.data();
}

Out key_texts(const std::array<uint64_t, 2>& words) {
  return {key_text(words[0]), key_text(words[1])};
}

Out to_out(const state::Tunnel& tunnel) {
  Out keys = Out::array();
  for (const auto& key : tunnel.keys) keys.push_back({{"id", key.id}, {"secret", key_texts(key.secret)}});
  return {{"port", tunnel.port}, {"keys", std::move(keys)}};
}

// --- reading

class Reader {
 public:
  Findings findings;

  // The member, or nullptr (with a finding where it is required).
  const Json* member(const Json& object, const Path& path, bool required) {
    if (object.is_object()) {
      if (const auto found = object.find(path.field); found != object.end()) return &*found;
    }
    if (required) findings.report(path, "missing");
    return nullptr;
  }

  std::string text(const Json& value, const Path& path) {
    if (const auto* found = value.get_ptr<const std::string*>()) return *found;
    findings.report(path, "not a text");
    return {};
  }

  template <typename T>
  T number(const Json& value, uint64_t most, const Path& path) {
    const auto* found = value.get_ptr<const uint64_t*>();
    if (found == nullptr || *found > most) {
      findings.report(path, "not a whole number from 0 to " + std::to_string(most));
      return {};
    }
    return static_cast<T>(*found);
  }

  // IpAddress, Prefix: whatever has a static parse().
  template <typename T>
  T parsed(const Json& value, const Path& path) {
    auto result = T::parse(text(value, path));
    if (result) return *result;
    findings.report(path, result.error().message());
    return {};
  }

  template <typename Enum, size_t N>
  Enum choice(const Json& value, const std::array<const char*, N>& names, const Path& path) {
    const std::string given = text(value, path);
    for (size_t i = 0; i < N; ++i) {
      if (given == names[i]) return static_cast<Enum>(i);
    }
    findings.report(path, "unknown value \"" + given + "\"");
    return {};
  }

  // Calls read(item, path of item) for each item of a list that may be missing.
  template <typename Read>
  void each(const Json& object, const Path& parent, const char* field, Read read) {
    const Json* list = member(object, {&parent, field}, false);
    if (list == nullptr) return;
    if (!list->is_array()) return findings.report({&parent, field}, "not a list");
    size_t index = 0;
    for (const Json& item : *list) read(item, Path{&parent, field, index++});
  }

  template <typename T>
  std::vector<T> parsed_list(const Json& object, const Path& parent, const char* field) {
    std::vector<T> result;
    each(object, parent, field, [&](const Json& item, const Path& path) { result.push_back(parsed<T>(item, path)); });
    return result;
  }

  std::vector<std::string> text_list(const Json& object, const Path& parent, const char* field) {
    std::vector<std::string> result;
    each(object, parent, field, [&](const Json& item, const Path& path) { result.push_back(text(item, path)); });
    return result;
  }

  template <typename T>
  void read_number(T& into, const Json& object, const Path& path, bool required,
                   uint64_t most = std::numeric_limits<T>::max()) {
    if (const Json* value = member(object, path, required)) into = number<T>(*value, most, path);
  }
  void read_text(std::string& into, const Json& object, const Path& path, bool required) {
    if (const Json* value = member(object, path, required)) into = text(*value, path);
  }
  void read_address(net::IpAddress& into, const Json& object, const Path& path) {
    if (const Json* value = member(object, path, true)) into = parsed<net::IpAddress>(*value, path);
  }
  template <typename Enum, size_t N>
  void read_choice(Enum& into, const Json& object, const std::array<const char*, N>& names, const Path& path) {
    if (const Json* value = member(object, path, false)) into = choice<Enum>(*value, names, path);
  }

  state::Backend backend(const Json& in, size_t groups, const Path& path) {
    state::Backend result;
    read_address(result.address, in, {&path, "address"});
    read_number(result.port, in, {&path, "port"}, true);
    read_number(result.group, in, {&path, "group"}, false);
    if (result.group >= groups) {
      findings.report({&path, "group"}, std::to_string(result.group) + ", of " + std::to_string(groups) + " groups");
    }
    read_text(result.node, in, {&path, "node"}, false);
    read_text(result.zone, in, {&path, "zone"}, false);
    if (const auto joined = in.find("joined"); joined != in.end() && *joined == kNotYet) {
      result.joined = state::kNotYet;
    } else {
      read_number(result.joined, in, {&path, "joined"}, false);
    }
    read_number(result.left, in, {&path, "left"}, false);
    return result;
  }

  void protocol(state::Protocol& into, const Json& object, const Path& path) {
    const Json* value = member(object, path, true);
    if (value == nullptr) return;
    const std::string given = text(*value, path);
    if (given == state::to_string(state::Protocol::udp)) {
      into = state::Protocol::udp;
    } else if (given != state::to_string(state::Protocol::tcp)) {
      findings.report(path, "\"" + given + "\", neither TCP nor UDP");
    }
  }

  state::Service service(const Json& in, const Path& path) {
    state::Service result;
    read_text(result.id, in, {&path, "id"}, true);
    result.addresses = parsed_list<net::IpAddress>(in, path, "addresses");
    read_number(result.port, in, {&path, "port"}, true);
    protocol(result.protocol, in, {&path, "protocol"});
    read_choice(result.forwarding, in, kForwarding, {&path, "forwarding"});
    read_choice(result.affinity, in, kAffinity, {&path, "affinity"});
    read_number(result.affinity_seconds, in, {&path, "affinitySeconds"}, false);
    read_choice(result.traffic_policy, in, kTrafficPolicy, {&path, "trafficPolicy"});
    result.allowed_sources = parsed_list<net::Prefix>(in, path, "allowedSources");
    read_number(result.drain_seconds, in, {&path, "drainSeconds"}, false);
    each(in, path, "groups", [&](const Json& item, const Path& here) {
      state::Group& group = result.groups.emplace_back();
      read_text(group.name, item, {&here, "name"}, false);
      read_number(group.weight, item, {&here, "weight"}, false);
    });
    each(in, path, "backends", [&](const Json& item, const Path& here) {
      result.backends.push_back(backend(item, result.groups.size(), here));
    });
    each(in, path, "sizes", [&](const Json& item, const Path& here) {
      state::TableSize& size = result.sizes.emplace_back();
      read_number(size.from, item, {&here, "from"}, false);
      read_number(size.log2, item, {&here, "log2"}, true, state::kMaxTableLog2);
    });
    return result;
  }

  state::Node node(const Json& in, const Path& path) {
    state::Node result;
    read_text(result.name, in, {&path, "name"}, true);
    result.addresses = parsed_list<net::IpAddress>(in, path, "addresses");
    result.source_addresses = parsed_list<net::IpAddress>(in, path, "sourceAddresses");
    return result;
  }

  state::Announcement announcement(const Json& in, const Path& path) {
    state::Announcement result;
    read_address(result.address, in, {&path, "address"});
    result.nodes = text_list(in, path, "nodes");
    result.interfaces = text_list(in, path, "interfaces");
    return result;
  }

  uint64_t key_word(const Json& value, const Path& path) {
    const std::string given = text(value, path);
    uint64_t word = 0;
    const char* const end = given.data() + given.size();
    if (given.size() != 18 || !given.starts_with("0x") || std::from_chars(given.data() + 2, end, word, 16).ptr != end) {
      findings.report(path, "not 0x and sixteen hexadecimal digits");
    }
    return word;
  }

  std::array<uint64_t, 2> two_words(const Json& in, const Path& parent, const char* field) {
    std::vector<uint64_t> words;
    each(in, parent, field, [&](const Json& item, const Path& path) { words.push_back(key_word(item, path)); });
    std::array<uint64_t, 2> result{};
    if (words.size() != result.size()) {
      findings.report({&parent, field}, std::to_string(words.size()) + " words, not 2");
    } else {
      std::copy(words.begin(), words.end(), result.begin());
    }
    return result;
  }

  void tunnel(const Json& in, state::Tunnel& into) {
    const Path path{nullptr, "tunnel"};
    const Json* const given = member(in, path, false);
    if (given == nullptr) return;
    if (!given->is_object()) return findings.report(path, "not an object");
    read_number(into.port, *given, {&path, "port"}, false);
    each(*given, path, "keys", [&](const Json& item, const Path& here) {
      state::TunnelKey& key = into.keys.emplace_back();
      read_number(key.id, item, {&here, "id"}, true);
      key.secret = two_words(item, here, "secret");
    });
  }

  // What is left of the document when its sections have been read.
  void head(const Json& in, state::DesiredState& into) {
    if (!in.is_object()) return findings.report({}, "not a JSON object");
    read_text(into.cluster_id, in, {nullptr, "clusterId"}, true);
    read_number(into.epoch, in, {nullptr, "epoch"}, true);
    read_number(into.revision, in, {nullptr, "revision"}, true);
    into.flow_hash_key = two_words(in, {}, "flowHashKey");
    tunnel(in, into.tunnel);
    for (const char* name : {"services", "nodes", "announcements"}) {
      if (in.contains(name) && !in[name].is_array()) findings.report({nullptr, name}, "not a list");
    }
  }
};

// Takes each entry of the three sections out of the document as soon as it is complete, so that the whole never stands
// in memory as a tree.
class Sections {
 public:
  Sections(Reader& reader, state::DesiredState& into) : reader_(reader), into_(into) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    if (depth == 1 && event == Json::parse_event_t::key) {
      key_ = parsed.get<std::string>();
      index_ = 0;
    }
    const bool entry_ends =
        depth == 2 && (event == Json::parse_event_t::object_end || event == Json::parse_event_t::array_end ||
                       event == Json::parse_event_t::value);
    return !entry_ends || !take(parsed);
  }

 private:
  template <typename Key, typename Value>
  void insert(std::map<Key, Value>& entries, const Key& key, Value value, const Path& path) {
    if (!entries.emplace(key, std::move(value)).second) reader_.findings.report(path, "listed twice");
  }

  bool take(const Json& entry) {
    if (key_ != "services" && key_ != "nodes" && key_ != "announcements") return false;
    const Path path{nullptr, key_.c_str(), index_++};
    if (!entry.is_object()) {
      reader_.findings.report(path, "not an object");
    } else if (key_ == "services") {
      auto service = reader_.service(entry, path);
      const std::string id = service.id;
      insert(into_.services, id, std::move(service), path);
    } else if (key_ == "nodes") {
      auto node = reader_.node(entry, path);
      const std::string name = node.name;
      insert(into_.nodes, name, std::move(node), path);
    } else {
      auto announcement = reader_.announcement(entry, path);
      const net::IpAddress address = announcement.address;
      insert(into_.announcements, address, std::move(announcement), path);
    }
    return true;
  }

  Reader& reader_;
  state::DesiredState& into_;
  std::string key_;
  size_t index_ = 0;
};

constexpr const char* kRead = "read desired state from JSON";

}  // namespace

std::string to_json(const state::DesiredState& state) {
  std::string out = "{\n\"clusterId\": " + dump(state.cluster_id) + ",\n\"epoch\": " + std::to_string(state.epoch) +
                    ",\n\"revision\": " + std::to_string(state.revision) + ",\n\"flowHashKey\": [\"" +
                    key_text(state.flow_hash_key[0]) + "\", \"" + key_text(state.flow_hash_key[1]) + "\"]";
  if (state.tunnel != state::Tunnel{}) out += ",\n\"tunnel\": " + dump(to_out(state.tunnel));
  section(out, "services", state.services);
  section(out, "nodes", state.nodes);
  section(out, "announcements", state.announcements);
  return out + "\n}\n";
}

Result<state::DesiredState> from_json(std::string_view text) {
  Reader reader;
  state::DesiredState result;
  try {
    // Wrapped: the parser copies its callback.
    Sections sections(reader, result);
    const Json document = Json::parse(
        text, [&](int depth, Json::parse_event_t event, Json& parsed) { return sections(depth, event, parsed); });
    reader.head(document, result);
  } catch (const Json::exception& exception) {
    return fail(ErrorKind::invalid, kRead, "", exception.what());
  }
  if (!reader.findings.none()) return reader.findings.error(kRead);
  return result;
}

}  // namespace sluice::api
