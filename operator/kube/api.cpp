#include "operator/kube/api.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "operator/kube/json_text.h"
#include "operator/kube/watch_rules.h"

namespace sluice::kube {
namespace {

constexpr int kPageSize = 500;
constexpr int kListAttempts = 3;
constexpr int kGone = 410;
constexpr int kFallbackPause = 1000;  // milliseconds, for a 429 that names none

ErrorKind kind_of(int status, const std::string& reason) {
  if (reason == "AlreadyExists") return ErrorKind::exists;
  if (reason == "Conflict") return ErrorKind::conflict;
  if (reason == "Timeout" || reason == "ServerTimeout") return ErrorKind::unavailable;
  switch (status) {
    case 401:
    case 403:
      return ErrorKind::denied;
    case 404:
    case kGone:
      return ErrorKind::not_found;
    case 408:
    case 429:
      return ErrorKind::unavailable;
    case 409:
      return ErrorKind::conflict;
    default:
      return status >= 500 ? ErrorKind::unavailable : ErrorKind::invalid;
  }
}

std::string describe(const Resource& resource, const ObjectKey& key) {
  return std::string(resource.kind) + (key.name.empty() ? "" : " ") + key.text();
}

Result<Object> parsed(Result<Response> response, std::string operation, const std::string& object) {
  if (!response) {
    Error error = response.error();
    error.operation = std::move(operation);
    error.object = object;
    return tl::unexpected(std::move(error));
  }
  if (!response->ok()) return tl::unexpected(error_of(*response, std::move(operation), object));
  auto body = parse_json(response->body);
  if (body.is_discarded()) return fail(ErrorKind::unavailable, std::move(operation), object, "the answer is not JSON");
  return std::make_shared<const nlohmann::json>(std::move(body));
}

Request write(std::string method, std::string path, const nlohmann::json& body) {
  Request request;
  request.method = std::move(method);
  request.path = std::move(path);
  request.body = to_text(body);
  return request;
}

std::string selectors(const ListOptions& options) {
  std::string out;
  if (!options.label_selector.empty()) out += "&labelSelector=" + percent_encode(options.label_selector);
  if (!options.field_selector.empty()) out += "&fieldSelector=" + percent_encode(options.field_selector);
  return out;
}

const char* content_type(PatchType type) {
  switch (type) {
    case PatchType::merge:
      return "application/merge-patch+json";
    case PatchType::json:
      return "application/json-patch+json";
    case PatchType::strategic:
      break;
  }
  return "application/strategic-merge-patch+json";
}

}  // namespace

Error error_of(const Response& response, std::string operation, std::string object) {
  Error error{ErrorKind::internal, std::move(operation), std::move(object), {}, {}};
  const WatchFailure failure = failure_of(response);
  const auto status = parse_json(response.body);
  std::string reason;
  if (status.is_object() && status.contains("reason") && status["reason"].is_string()) reason = status["reason"];
  error.kind = kind_of(response.status, reason);
  error.reason = failure.text;
  if (error.kind == ErrorKind::unavailable) {
    error.retry_after = failure.retry_after;
    if (response.status == 429) {
      error.retry_after = std::max(error.retry_after, std::chrono::milliseconds(kFallbackPause));
    }
  }
  return error;
}

void take_items(nlohmann::json& list, const Resource& resource, std::vector<Object>& into) {
  const auto items = list.find("items");
  if (items == list.end() || !items->is_array()) return;  // null where there are none
  into.reserve(into.size() + items->size());
  const std::string api_version = resource.api_version();
  for (auto& item : *items) {
    if (!item.is_object()) continue;
    item["apiVersion"] = api_version;  // items of typed lists come without
    item["kind"] = resource.kind;
    if (const auto metadata = item.find("metadata"); metadata != item.end() && metadata->is_object()) {
      metadata->erase("managedFields");
    }
    into.push_back(std::make_shared<const nlohmann::json>(std::move(item)));
  }
}

Result<Response> Api::send(Request request) {
  request.stop = stop_;
  return transport_->send(request);
}

Result<Object> Api::get(const Resource& resource, const ObjectKey& key) {
  Request request;
  request.path = resource.path(key.ns, key.name);
  return parsed(send(request), "get", describe(resource, key));
}

Result<Object> Api::get_path(const std::string& path) {
  Request request;
  request.path = path;
  return parsed(send(request), "get", path);
}

Result<ObjectList> Api::consistent_list(const Resource& resource, const ListOptions& options, Response* refusal) {
  const std::string operation = "list";
  const std::string object(resource.plural);
  for (int attempt = 1;; ++attempt) {
    ObjectList list;
    std::string token;
    bool expired = false;
    do {
      Request request;
      request.timeout = std::chrono::seconds(60);
      request.path = resource.path(options.ns) + "?limit=" + std::to_string(kPageSize) + selectors(options);
      if (!token.empty()) request.path += "&continue=" + percent_encode(token);
      auto response = send(std::move(request));
      if (!response) return tl::unexpected(parsed(std::move(response), operation, object).error());
      expired = response->status == kGone && !token.empty();
      if (expired) break;
      if (!response->ok()) {
        if (refusal != nullptr) *refusal = *response;
        return tl::unexpected(error_of(*response, operation, object));
      }
      auto page = parse_json(response->body);
      if (!page.is_object()) return fail(ErrorKind::unavailable, operation, object, "the answer is not a list");
      take_items(page, resource, list.items);
      list.resource_version = resource_version_of(page);
      const auto metadata = page.find("metadata");
      token = metadata != page.end() && metadata->is_object() ? metadata->value("continue", std::string()) : "";
    } while (!token.empty());
    if (!expired) return list;
    if (attempt == kListAttempts) return fail(ErrorKind::unavailable, operation, object, "its pages expire too soon");
  }
}

Result<Object> Api::create(const Resource& resource, const std::string& ns, const nlohmann::json& object) {
  return parsed(send(write("POST", resource.path(ns), object)), "create",
                describe(resource, {ns, key_of(object).name}));
}

Result<Object> Api::update(const Resource& resource, const nlohmann::json& object) {
  const ObjectKey key = key_of(object);
  return parsed(send(write("PUT", resource.path(key.ns, key.name), object)), "update", describe(resource, key));
}

Result<Object> Api::update_status(const Resource& resource, const nlohmann::json& object) {
  const ObjectKey key = key_of(object);
  return parsed(send(write("PUT", resource.path(key.ns, key.name, "status"), object)), "update the status of",
                describe(resource, key));
}

Result<Object> Api::patch(const Resource& resource, const ObjectKey& key, PatchType type, const nlohmann::json& patch,
                          const std::string& subresource) {
  Request request = write("PATCH", resource.path(key.ns, key.name, subresource), patch);
  request.content_type = content_type(type);
  return parsed(send(request), "patch", describe(resource, key));
}

Result<Object> Api::apply(const Resource& resource, const nlohmann::json& object, const std::string& field_manager,
                          bool force, const std::string& subresource) {
  const ObjectKey key = key_of(object);
  Request request = write("PATCH",
                          resource.path(key.ns, key.name, subresource) +
                              "?fieldManager=" + percent_encode(field_manager) + (force ? "&force=true" : ""),
                          object);
  request.content_type = "application/apply-patch+yaml";  // JSON is YAML
  return parsed(send(request), "apply", describe(resource, key));
}

Status Api::remove(const Resource& resource, const ObjectKey& key, const Preconditions& preconditions) {
  nlohmann::json options{{"apiVersion", "v1"}, {"kind", "DeleteOptions"}};
  if (!preconditions.uid.empty()) options["preconditions"]["uid"] = preconditions.uid;
  if (!preconditions.resource_version.empty()) {
    options["preconditions"]["resourceVersion"] = preconditions.resource_version;
  }
  auto done =
      parsed(send(write("DELETE", resource.path(key.ns, key.name), options)), "delete", describe(resource, key));
  if (!done) return tl::unexpected(done.error());
  return {};
}

}  // namespace sluice::kube
