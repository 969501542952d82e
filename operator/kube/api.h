// The API server's verbs over a Transport. Thin: JSON in, JSON out; parsed on the caller's thread. Thread-safe.
//
// Errors: AlreadyExists -> exists, Conflict -> conflict, NotFound and Gone -> not_found, Unauthorized and Forbidden ->
// denied, Invalid, BadRequest and the rest of 4xx -> invalid, TooManyRequests, timeouts, 5xx and no answer ->
// unavailable. `reason` is the server's message; `retry_after` what it asked for. A create whose answer was lost may
// have taken effect: the repetition then says `exists`, and the caller looks who made it.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "operator/kube/object.h"
#include "operator/kube/resource.h"
#include "operator/kube/transport.h"

namespace sluice::kube {

struct ListOptions {
  std::string ns;  // empty: all
  std::string label_selector;
  std::string field_selector;
};
struct ObjectList {
  std::vector<Object> items;     // each with apiVersion and kind filled in
  std::string resource_version;  // of the list
};

enum class PatchType { merge, json, strategic };

class Api {
 public:
  // `stop` gives up calls under way.
  explicit Api(std::shared_ptr<Transport> transport, std::stop_token stop = {})
      : transport_(std::move(transport)), stop_(std::move(stop)) {}

  Result<Object> get(const Resource& resource, const ObjectKey& key);
  // One consistent list: a quorum read, whatever the caches know. Read in pages; begun again when a page has expired.
  // The list to be read before a term of leadership allocates anything.
  // `refusal`, if given, receives the answer that was not 2xx.
  Result<ObjectList> consistent_list(const Resource& resource, const ListOptions& options = {},
                                     Response* refusal = nullptr);
  Result<Object> create(const Resource& resource, const std::string& ns, const nlohmann::json& object);
  // Replaces; with metadata.resourceVersion in `object` only that version (else conflict).
  Result<Object> update(const Resource& resource, const nlohmann::json& object);
  Result<Object> update_status(const Resource& resource, const nlohmann::json& object);
  // A merge patch may carry metadata.resourceVersion as its condition. `subresource`: "", "status".
  Result<Object> patch(const Resource& resource, const ObjectKey& key, PatchType type, const nlohmann::json& patch,
                       const std::string& subresource = {});
  // Server-side apply as `field_manager`.
  Result<Object> apply(const Resource& resource, const nlohmann::json& object, const std::string& field_manager,
                       bool force, const std::string& subresource = {});
  struct Preconditions {
    std::string uid;
    std::string resource_version;
  };
  // Asks for deletion (finalizers may keep the object). not_found if it is not there.
  Status remove(const Resource& resource, const ObjectKey& key, const Preconditions& preconditions = {});
  // Any path, for what has no Resource: "/version", "/readyz".
  Result<Object> get_path(const std::string& path);

  [[nodiscard]] Transport& transport() const { return *transport_; }

 private:
  Result<Response> send(Request request);

  std::shared_ptr<Transport> transport_;
  std::stop_token stop_;
};

// Moves the items of a list's body into `into`, each with apiVersion and kind, without metadata.managedFields. Pure.
void take_items(nlohmann::json& list, const Resource& resource, std::vector<Object>& into);

// The Error for an answer that is not 2xx. Pure.
Error error_of(const Response& response, std::string operation, std::string object);

}  // namespace sluice::kube
