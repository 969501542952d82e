#include <algorithm>

#include "operator/planner/acceptance.h"
#include "operator/status/ingress.h"
#include "operator/status/parts.h"

namespace sluice::status {
namespace {

using planner::ObjectPlan;
using resources::Service;

constexpr const char* kDeleting = "Deleting";

class ServiceStatus {
 public:
  ServiceStatus(const Input& input, Progress& progress, const Service& service, std::vector<Write>& out)
      : input_(input), progress_(progress), service_(service), out_(out) {}

  void write() {
    const resources::Owner owner{resources::OwnerKind::service, service_.meta.key};
    const bool ours = planner::is_ours(service_, input_.options);
    if (ours && !service_.meta.deleting) {
      if (add_finalizers()) return;  // the status follows when they are there
      if (const auto plan = input_.round.plan.objects.find(owner); plan != input_.round.plan.objects.end())
        report(plan->second);
    } else if (service_.meta.has_finalizer(planner::kCleanupFinalizer)) {
      if (input_.round.plan.torn_down.contains(owner))
        remove_finalizers();
      else
        report_teardown();
    }
  }

 private:
  Event event(bool warning, std::string reason, std::string message) const {
    return {service_.raw, warning, std::move(reason), std::move(message)};
  }

  [[nodiscard]] bool default_class() const { return input_.options.default_class && !service_.load_balancer_class; }

  void patch_finalizers(const std::vector<std::string>& finalizers, Event told) {
    Json body = {{"metadata", {{"resourceVersion", service_.meta.resource_version}, {"finalizers", finalizers}}}};
    out_.push_back({kube::kServices,
                    service_.meta.key,
                    Verb::merge_patch,
                    "",
                    std::make_shared<const Json>(std::move(body)),
                    {std::move(told)}});
  }

  bool add_finalizers() {
    std::vector<std::string> finalizers = service_.meta.finalizers;
    const auto need = [&](const char* name) {
      if (!service_.meta.has_finalizer(name)) finalizers.emplace_back(name);
    };
    need(planner::kCleanupFinalizer);
    if (default_class()) need(planner::kUpstreamFinalizer);
    if (finalizers.size() == service_.meta.finalizers.size()) return false;
    patch_finalizers(finalizers, event(false, "EnsuringLoadBalancer", "Ensuring load balancer"));
    return true;
  }

  void remove_finalizers() {
    std::vector<std::string> finalizers = service_.meta.finalizers;
    std::erase(finalizers, planner::kCleanupFinalizer);
    // Ours is there, so upstream's is, too, if we were ever the default: whatever the flag says now.
    if (!service_.load_balancer_class) std::erase(finalizers, planner::kUpstreamFinalizer);
    // What is no longer ours keeps no condition and no address of ours; on a Service that goes away they do not matter.
    if (!service_.meta.deleting && drop_conditions()) return;  // the version moves on: the rest follows next round
    patch_finalizers(finalizers, event(false, "DeletedLoadBalancer", "Deleted load balancer"));
  }

  // False where there are none.
  bool drop_conditions() {
    Json dropped = Json::array();
    for (const resources::Condition& condition : service_.conditions) {
      if (condition.type.starts_with(kConditionPrefix))
        dropped.push_back({{"$patch", "delete"}, {"type", condition.type}});
    }
    if (dropped.empty()) return false;
    Json status = {{"conditions", std::move(dropped)}};
    if (!address_given_up()) clear_ingress(status);
    patch_status(std::move(status), {});
    return true;
  }

  // What is there after that is somebody else's.
  [[nodiscard]] bool address_given_up() const {
    const resources::Condition* programmed = resources::find_condition(service_.conditions, "sluice.io/Programmed");
    return programmed != nullptr && programmed->reason == kDeleting;
  }

  // Who serves it from now on may have been quicker: what is there of others stays.
  void clear_ingress(Json& status) const {
    auto others = others_ingress(*service_.raw, [this](const std::string& ip) { return given_by_us(ip); });
    if (others) status["loadBalancer"] = {{"ingress", std::move(*others)}};
  }

  // Claims stay until no node has their address any more; where one was deleted by hand, the planner knows that it is
  // being taken off the nodes.
  [[nodiscard]] bool given_by_us(const std::string& ip) const {
    const auto address = net::IpAddress::parse(ip);
    return claimed_by(input_.cluster, {resources::OwnerKind::service, service_.meta.key}, ip) ||
           (address && input_.round.plan.memory.releasing.contains(*address));
  }

  void patch_status(Json status, std::vector<Event> events) {
    Json body = {{"metadata", {{"resourceVersion", service_.meta.resource_version}}}, {"status", std::move(status)}};
    out_.push_back({kube::kServices, service_.meta.key, Verb::strategic_patch, "status",
                    std::make_shared<const Json>(std::move(body)), std::move(events)});
  }

  // Those of `wanted` that differ from what is there, as a strategic merge patch takes them: by type.
  Json changed_conditions(const std::vector<WantedCondition>& wanted) {
    Json out = Json::array();
    const std::string now = timestamp(input_.wall);
    const int64_t generation = service_.meta.generation;
    for (const WantedCondition& one : wanted) {
      const resources::Condition* before = resources::find_condition(service_.conditions, one.type);
      Json made = condition_json(one, before, generation, now);
      const bool same = before != nullptr && before->status == one.status && before->reason == made["reason"] &&
                        before->message == made["message"] && before->observed_generation == generation;
      if (!same) out.push_back(std::move(made));
    }
    return out;
  }

  static WantedCondition prefixed(WantedCondition condition) {
    condition.type.insert(0, kConditionPrefix);
    return condition;
  }

  void report(const ObjectPlan& object) {
    const std::vector<WantedCondition> wanted = {
        prefixed(condition("Accepted", object.accepted)),
        prefixed(condition("AddressesAllocated", object.addresses)),
        prefixed(condition("BackendsResolved", object.accepted.good ? object.backends_resolved : object.accepted)),
        prefixed(progress_.programmed(object).condition),
        prefixed(progress_.announced(object)),
    };
    std::vector<Event> events = transitions(wanted);
    Json status = Json::object();
    if (Json conditions = changed_conditions(wanted); !conditions.empty()) status["conditions"] = std::move(conditions);
    const std::vector<resources::IngressPoint> ingress = wanted_ingress(object);
    if (ingress != service_.ingress) {
      tell_ingress(ingress, events);
      Json list = Json::array();
      for (const resources::IngressPoint& point : ingress)
        list.push_back({{"ip", point.ip}, {"ipMode", point.ip_mode}});
      status["loadBalancer"] = {{"ingress", list.empty() ? Json(nullptr) : std::move(list)}};
    }
    if (!status.empty()) patch_status(std::move(status), std::move(events));
  }

  // An address appears once the announcing node has it in its maps, and stays while it is the Service's.
  std::vector<resources::IngressPoint> wanted_ingress(const ObjectPlan& object) const {
    std::vector<resources::IngressPoint> out;
    for (const ipam::Allocation& allocation : object.programmed) {
      const std::string text = allocation.address.to_string();
      const bool there =
          std::ranges::find(service_.ingress, text, &resources::IngressPoint::ip) != service_.ingress.end();
      if (there || progress_.address_ready(object, allocation.address)) out.push_back({text, "", "VIP"});
    }
    // A new address is about to take the place of the one that clients know: until then that one is not taken away.
    return out.empty() && !object.programmed.empty() ? service_.ingress : out;
  }

  void tell_ingress(const std::vector<resources::IngressPoint>& ingress, std::vector<Event>& events) const {
    if (ingress.empty()) return;
    std::string addresses;
    for (const resources::IngressPoint& point : ingress) addresses += (addresses.empty() ? "" : ", ") + point.ip;
    if (service_.ingress.empty())
      events.push_back(event(false, "EnsuredLoadBalancer", "Ensured load balancer at " + addresses));
    else
      events.push_back(event(false, "UpdatedLoadBalancer", "Updated load balancer, now at " + addresses));
  }

  std::vector<Event> transitions(const std::vector<WantedCondition>& wanted) const {
    std::vector<Event> out;
    for (const WantedCondition& one : wanted) {
      if (one.status != "False" || !turned(service_.conditions, one)) continue;
      const bool no_address = one.type == "sluice.io/AddressesAllocated" && !waits(one.reason) && accepted(wanted);
      if (one.type == "sluice.io/Accepted" || no_address) {
        out.push_back(event(true, "SyncLoadBalancerFailed", one.reason + ": " + one.message));
      } else if (one.type == "sluice.io/Announced" && one.reason != "Pending" && one.reason != "NotProgrammed") {
        out.push_back(event(true, "UnAvailableLoadBalancer", one.message));
      }
    }
    return out;
  }

  static bool waits(const std::string& reason) { return reason == "Claiming" || reason == "Pending"; }
  static bool accepted(const std::vector<WantedCondition>& wanted) { return wanted.front().status == "True"; }

  void report_teardown() {
    const WantedCondition wanted{"sluice.io/Programmed", "False", kDeleting, "being taken off the nodes"};
    if (!turned(service_.conditions, wanted)) return;
    Json status = {{"conditions", changed_conditions({wanted})}};
    if (!service_.meta.deleting) clear_ingress(status);
    patch_status(std::move(status), {event(false, "DeletingLoadBalancer", "Deleting load balancer")});
  }

  const Input& input_;
  Progress& progress_;
  const Service& service_;
  std::vector<Write>& out_;
};

}  // namespace

void service_writes(const Input& input, Progress& progress, const Service& service, std::vector<Write>& out) {
  ServiceStatus(input, progress, service, out).write();
}

}  // namespace sluice::status
