#include "operator/certificates/keeper.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "common/log/spdlog.h"
#include "operator/kube/api.h"
#include "operator/kube/reflector.h"

namespace sluice::certificates {

namespace {

using nlohmann::json;

constexpr const char* kCaCertificate = "ca.crt";
constexpr const char* kCaKey = "ca.key";
constexpr const char* kFlowHashKey = "flow-hash.key";
constexpr const char* kCertificate = "tls.crt";
constexpr const char* kKey = "tls.key";

// Empty where it is not base64.
std::string decode_base64(const std::string& text) {
  std::vector<unsigned char> out(text.size() / 4 * 3 + 1);
  const int size =
      EVP_DecodeBlock(out.data(), reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0 || text.size() % 4 != 0) {
    return {};
  }
  const auto padding = std::ranges::count(text.substr(text.size() - std::min<size_t>(text.size(), 2)), '=');
  return {out.begin(), out.begin() + size - padding};
}

std::string encode_base64(const std::string& bytes) {
  std::vector<unsigned char> out((bytes.size() + 2) / 3 * 4 + 1);
  const int size =
      EVP_EncodeBlock(out.data(), reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  return {out.begin(), out.begin() + size};
}

std::string value(const json* secret, const char* key) {
  if (secret == nullptr || !secret->is_object()) {
    return {};
  }
  const auto data = secret->find("data");
  if (data == secret->end() || !data->is_object()) {
    return {};
  }
  const auto found = data->find(key);
  return found != data->end() && found->is_string() ? decode_base64(found->get<std::string>()) : std::string();
}

void put(json& secret, const char* key, const std::string& bytes) {
  if (!secret["data"].is_object()) {
    secret["data"] = json::object();
  }
  secret["data"][key] = encode_base64(bytes);
}

class ReflectedKeeper final : public Keeper, kube::ReflectorHandler {
 public:
  ReflectedKeeper(const std::shared_ptr<kube::Transport>& transport, SecretNames names, std::function<void()> changed)
      : names_(std::move(names)), changed_(std::move(changed)), api_(transport) {
    const std::array wanted{names_.ca, names_.operator_leaf, names_.agent_leaf};
    for (size_t i = 0; i < wanted.size(); ++i) {
      // One by one: a role can allow to list and watch a single name.
      kube::ReflectorOptions options;
      options.ns = names_.ns;
      options.field_selector = "metadata.name=" + wanted[i];
      reflectors_[i] = kube::Reflector::start(transport, kube::kSecrets, options, this);
    }
  }

  void replaced(const std::vector<kube::Object>& /*all*/, const std::vector<kube::Object>& /*vanished*/) override {
    changed_();
  }
  void upserted(const kube::Object& /*object*/) override { changed_(); }
  void deleted(const kube::ObjectKey& /*key*/, const kube::Object& /*last_known*/) override { changed_(); }

  [[nodiscard]] bool synced() const override {
    return std::ranges::all_of(reflectors_, [](const auto& reflector) { return reflector->synced(); });
  }

  [[nodiscard]] std::optional<LeafSecret> operator_leaf(Clock::time_point now) const override {
    const auto object = reflectors_[1]->find({names_.ns, names_.operator_leaf});
    auto leaf = read_leaf(object.get());
    return usable(leaf, tls::kOperatorName, now) ? std::optional(std::move(leaf)) : std::nullopt;
  }

  [[nodiscard]] std::optional<std::array<uint64_t, 2>> flow_hash_key() const override {
    return parse_flow_hash_key(read_ca(reflectors_[0]->find({names_.ns, names_.ca}).get()).flow_hash_key);
  }

  Result<Tended> tend(Clock::time_point now) override {
    const auto ca = reflectors_[0]->find({names_.ns, names_.ca});
    const auto operator_leaf = reflectors_[1]->find({names_.ns, names_.operator_leaf});
    const auto agent_leaf = reflectors_[2]->find({names_.ns, names_.agent_leaf});
    const std::array looked_at{ca, operator_leaf, agent_leaf};
    if (looked_at == fine_ && now < fine_until_) {
      return Tended{.wrote = false, .next = fine_until_};
    }
    const auto plan = plan_certificates({.ca = read_ca(ca.get()),
                                         .operator_leaf = read_leaf(operator_leaf.get()),
                                         .agent_leaf = read_leaf(agent_leaf.get())},
                                        now);
    if (!plan) {
      return tl::unexpected(plan.error());
    }
    for (const auto& reason : plan->reasons) {
      spdlog::info("certificates: {}", reason);
    }
    if (plan->ca) {
      if (auto written = write(ca, names_.ca, *plan->ca); !written) {
        return tl::unexpected(written.error());
      }
    }
    if (plan->operator_leaf) {
      if (auto written = write(operator_leaf, names_.operator_leaf, *plan->operator_leaf); !written) {
        return tl::unexpected(written.error());
      }
    }
    if (plan->agent_leaf) {
      if (auto written = write(agent_leaf, names_.agent_leaf, *plan->agent_leaf); !written) {
        return tl::unexpected(written.error());
      }
    }
    if (plan->empty()) {
      fine_ = looked_at;
      fine_until_ = plan->next;
    }
    return Tended{.wrote = !plan->empty(), .next = plan->next};
  }

 private:
  template <typename Contents>
  Status write(const kube::Object& secret, const std::string& name, const Contents& contents) {
    if (!secret) {
      return fail(ErrorKind::not_found, "fill Secret", names_.ns + "/" + name,
                  "it is not there; the chart creates it, and `helm upgrade` creates it again");
    }
    auto written = api_.update(kube::kSecrets, with_contents(*secret, contents));
    return written ? Status{} : Status(tl::unexpected(written.error()));
  }

  const SecretNames names_;
  const std::function<void()> changed_;
  kube::Api api_;
  std::array<kube::Object, 3> fine_;  // as they were when nothing was to be written; of the thread that tends
  Clock::time_point fine_until_;
  std::array<std::unique_ptr<kube::Reflector>, 3> reflectors_;  // CA, operator, agent
};

}  // namespace

CaSecret read_ca(const json* secret) {
  return {.bundle = value(secret, kCaCertificate),
          .key = value(secret, kCaKey),
          .flow_hash_key = value(secret, kFlowHashKey)};
}

LeafSecret read_leaf(const json* secret) {
  return {
      .bundle = value(secret, kCaCertificate), .certificate = value(secret, kCertificate), .key = value(secret, kKey)};
}

json with_contents(json secret, const CaSecret& contents) {
  put(secret, kCaCertificate, contents.bundle);
  put(secret, kCaKey, contents.key);
  put(secret, kFlowHashKey, contents.flow_hash_key);
  return secret;
}

json with_contents(json secret, const LeafSecret& contents) {
  put(secret, kCaCertificate, contents.bundle);
  put(secret, kCertificate, contents.certificate);
  put(secret, kKey, contents.key);
  return secret;
}

std::unique_ptr<Keeper> Keeper::start(const std::shared_ptr<kube::Transport>& transport, const SecretNames& names,
                                      std::function<void()> changed) {
  return std::make_unique<ReflectedKeeper>(transport, names, std::move(changed));
}

}  // namespace sluice::certificates
