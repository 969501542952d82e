#include "common/state/digest.h"

#include <openssl/evp.h>

#include <cstdlib>
#include <memory>
#include <string_view>

namespace sluice::state {

namespace {

// Changes with every change of the encoding below: two versions of Sluice then differ and send a snapshot. Fields that
// are younger than the encoding stand behind it, each with its name, and only where they say something: content that an
// older version can express has the digest that it computes, too.
constexpr std::string_view kEncoding = "sluice desired state 1";

// The canonical encoding: integers little-endian at their own width, text and lists behind their length. Nothing within
// it is optional, so that no two values share an encoding. Own rather than protobuf's, which promises no canonical
// form.
class Encoder {
 public:
  template <std::unsigned_integral T>
  void number(T value) {
    for (size_t i = 0; i < sizeof value; ++i) bytes_.push_back(static_cast<char>(value >> (8 * i)));
  }
  void text(std::string_view value) {
    number(uint64_t{value.size()});
    bytes_.append(value);
  }
  void address(const net::IpAddress& value) {
    number(static_cast<uint8_t>(value.family()));
    for (size_t i = 0; i < value.size(); ++i) number(value.bytes()[i]);
  }
  template <typename List, typename EncodeItem>
  void list(const List& items, EncodeItem encode_item) {
    number(uint64_t{items.size()});
    for (const auto& item : items) encode_item(item);
  }
  void raw(const Digest& value) { bytes_.append(value.bytes.begin(), value.bytes.end()); }
  void clear() { bytes_.clear(); }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    if (algorithm() == nullptr || context_ == nullptr) std::abort();
  }
  Digest operator()(const std::string& bytes) {
    Digest digest;
    // Fails only where the library itself is broken: no caller could go on.
    if (EVP_DigestInit_ex2(context_.get(), algorithm(), nullptr) != 1 ||
        EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1 ||
        EVP_DigestFinal_ex(context_.get(), digest.bytes.data(), nullptr) != 1) {
      std::abort();
    }
    return digest;
  }

 private:
  // Fetched once: the implicit fetch of EVP_sha256() costs more than hashing a small entry.
  static const EVP_MD* algorithm() {
    static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return fetched;
  }
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

void encode(Encoder& out, const Service& service) {
  const auto address = [&](const net::IpAddress& value) { out.address(value); };
  out.text(service.id);
  out.list(service.addresses, address);
  out.number(service.port);
  out.number(static_cast<uint8_t>(service.protocol));
  out.number(static_cast<uint8_t>(service.forwarding));
  out.number(static_cast<uint8_t>(service.affinity));
  out.number(static_cast<uint8_t>(service.traffic_policy));
  out.list(service.allowed_sources, [&](const net::Prefix& prefix) {
    out.address(prefix.address);
    out.number(prefix.length);
  });
  out.number(service.drain_seconds);
  out.list(service.groups, [&](const Group& group) {
    out.text(group.name);
    out.number(group.weight);
  });
  out.list(service.backends, [&](const Backend& backend) {
    out.address(backend.address);
    out.number(backend.port);
    out.number(backend.group);
    out.text(backend.node);
    out.text(backend.zone);
    out.number(backend.joined);
    out.number(backend.left);
  });
  out.list(service.sizes, [&](const TableSize& size) {
    out.number(size.from);
    out.number(size.log2);
  });
  if (service.affinity_seconds != Service{}.affinity_seconds) {
    out.text("affinity_seconds");
    out.number(service.affinity_seconds);
  }
}

void encode(Encoder& out, const Node& node) {
  const auto address = [&](const net::IpAddress& value) { out.address(value); };
  out.text(node.name);
  out.list(node.addresses, address);
  out.list(node.source_addresses, address);
}

void encode(Encoder& out, const Tunnel& tunnel) {
  if (tunnel == Tunnel{}) return;
  out.text("tunnel");
  out.number(tunnel.port);
  out.list(tunnel.keys, [&](const TunnelKey& key) {
    out.number(key.id);
    for (const uint64_t word : key.secret) out.number(word);
  });
}

void encode(Encoder& out, const Announcement& announcement) {
  const auto text = [&](const std::string& value) { out.text(value); };
  out.address(announcement.address);
  out.list(announcement.nodes, text);
  out.list(announcement.interfaces, text);
}

}  // namespace

std::string Digest::hex() const {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const uint8_t byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

Digest digest(const DesiredState& state) {
  Sha256 hash;
  Encoder whole;
  Encoder entry;
  whole.text(kEncoding);
  whole.text(state.cluster_id);
  for (const uint64_t word : state.flow_hash_key) whole.number(word);
  // Entries enter by their own digests, in the order of their keys: what did not change need not be hashed again.
  const auto section = [&](const auto& entries) {
    whole.list(entries, [&](const auto& item) {
      entry.clear();
      encode(entry, item.second);
      whole.raw(hash(entry.bytes()));
    });
  };
  section(state.services);
  section(state.nodes);
  section(state.announcements);
  encode(whole, state.tunnel);
  return hash(whole.bytes());
}

}  // namespace sluice::state
