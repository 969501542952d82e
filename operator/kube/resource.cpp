#include "operator/kube/resource.h"

namespace sluice::kube {

std::string percent_encode(std::string_view text) {
  static constexpr std::string_view kUnreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (kUnreserved.find(c) != std::string_view::npos) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

std::string Resource::api_version() const {
  return group.empty() ? std::string(version) : std::string(group) + "/" + std::string(version);
}

std::string Resource::path(std::string_view ns, std::string_view name, std::string_view subresource) const {
  std::string out = group.empty() ? "/api/" : "/apis/" + std::string(group) + "/";
  out += version;
  if (namespaced && !ns.empty()) out += "/namespaces/" + percent_encode(ns);
  out += "/" + std::string(plural);
  if (!name.empty()) out += "/" + percent_encode(name);
  if (!subresource.empty()) out += "/" + percent_encode(subresource);
  return out;
}

}  // namespace sluice::kube
