// One end of tests/bench/live: sends packets into a device for some seconds, as fast as one CPU makes them, and counts
// what comes back there. Prints, on one line: packets sent, packets back to an expected address, others, seconds, and
// CPU seconds of the thread asked for. To be run in the device's network namespace; needs root.
//
//   live-traffic --device NAME --to MAC --service ADDRESS --services N --port PORT --flows N --expect ADDRESS/BITS
//                --seconds N [--thread PID]
//
// Packets are UDP of 64 bytes, from 198.18.0.0/15.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <getopt.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>

#include "tests/bench/packet_stencil.h"

// Names the types of packet_shared.h.
#include "bench/live.skel.h"

namespace sluice::bench {
namespace {

constexpr uint32_t kClients = 0xc6120000;  // 198.18.0.0
constexpr uint16_t kFirstClientPort = 0x8000;
constexpr uint32_t kAtOnce = 1U << 20;  // to begin and to end takes some 30 ms
constexpr double kPatience = 20;        // seconds

struct Arguments {
  uint32_t device = 0;
  agent::dataplane::Mac own{}, to{};
  net::IpAddress service;
  uint32_t services = 1;
  uint16_t port = 0;
  uint32_t flows = 1;
  net::Prefix expected;
  double seconds = 1;
  int thread = 0;
};

template <typename Value>
Value parsed(Result<Value> value) {
  if (!value) throw std::invalid_argument(value.error().message());
  return *value;
}

agent::dataplane::Mac parse_mac(const std::string& text) {
  agent::dataplane::Mac mac{};
  for (size_t i = 0; i < mac.size(); ++i)
    mac.at(i) = static_cast<uint8_t>(std::stoul(text.substr(3 * i, 2), nullptr, 16));
  return mac;
}

Arguments parse(int argc, char** argv) {
  static constexpr option kOptions[] = {
      {"device", required_argument, nullptr, 'd'},  {"to", required_argument, nullptr, 't'},
      {"service", required_argument, nullptr, 's'}, {"services", required_argument, nullptr, 'n'},
      {"port", required_argument, nullptr, 'p'},    {"flows", required_argument, nullptr, 'f'},
      {"expect", required_argument, nullptr, 'e'},  {"seconds", required_argument, nullptr, 'l'},
      {"thread", required_argument, nullptr, 'c'},  {nullptr, 0, nullptr, 0}};
  Arguments arguments;
  for (int one = 0; (one = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    const std::string value = optarg != nullptr ? optarg : "";
    if (one == 'd') arguments.device = if_nametoindex(value.c_str());
    if (one == 't') arguments.to = parse_mac(value);
    if (one == 's') arguments.service = parsed(net::IpAddress::parse(value));
    if (one == 'n') arguments.services = static_cast<uint32_t>(std::stoul(value));
    if (one == 'p') arguments.port = static_cast<uint16_t>(std::stoul(value));
    if (one == 'f') arguments.flows = static_cast<uint32_t>(std::stoul(value));
    if (one == 'e') arguments.expected = parsed(net::Prefix::parse(value));
    if (one == 'l') arguments.seconds = std::stod(value);
    if (one == 'c') arguments.thread = std::stoi(value);
    if (one == '?') throw std::invalid_argument("see the head of live_traffic.cpp");
  }
  if (arguments.device == 0) throw std::invalid_argument("--device: there is none of that name");
  if (arguments.flows == 0 || (arguments.flows & (arguments.flows - 1)) != 0)
    throw std::invalid_argument("--flows: a power of two");
  return arguments;
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Of CPU time that a thread has had; 0: none was asked for.
double thread_seconds(int thread) {
  if (thread == 0) return 0;
  double nanoseconds = 0;
  std::ifstream file(fmt::format("/proc/{}/schedstat", thread));
  if (!(file >> nanoseconds)) throw std::runtime_error(fmt::format("cannot read /proc/{}/schedstat", thread));
  return nanoseconds / 1e9;
}

class Traffic {
 public:
  explicit Traffic(const Arguments& arguments) : skeleton_(live_bench_bpf__open()), device_(arguments.device) {
    if (skeleton_ == nullptr) throw std::runtime_error("cannot open the BPF object");
    const Stencil stencil = make_stencil({.source_mac = arguments.own,
                                          .destination_mac = arguments.to,
                                          .source = net::IpAddress::from_ipv4(htonl(kClients)),
                                          .destination = arguments.service,
                                          .protocol = state::Protocol::udp});
    frame_ = stencil.frame;
    std::memcpy(const_cast<bench_shape*>(&skeleton_->rodata->shape), &stencil.shape, sizeof(bench_shape));
    skeleton_->rodata->device = device_;
    skeleton_->rodata->expected = arguments.expected.address.ipv4();
    skeleton_->rodata->prefix = htonl(arguments.expected.length == 0 ? 0 : ~0U << (32 - arguments.expected.length));
    if (const int error = live_bench_bpf__load(skeleton_); error != 0) failed("load the programs", -error);
    skeleton_->bss->headers = stencil.headers;
    skeleton_->bss->flows = {.mask = arguments.flows - 1,
                             .services = arguments.services,
                             .client = kClients,
                             .service = ntohl(arguments.service.ipv4()),
                             .service_port = arguments.port,
                             .first_client_port = kFirstClientPort};
    const int program = bpf_program__fd(skeleton_->progs.count);
    if (const int error = bpf_xdp_attach(static_cast<int>(device_), program, XDP_FLAGS_DRV_MODE, nullptr); error != 0)
      failed("attach to the device", -error);
  }
  ~Traffic() {
    bpf_xdp_detach(static_cast<int>(device_), XDP_FLAGS_DRV_MODE, nullptr);
    live_bench_bpf__destroy(skeleton_);
  }
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  void send(uint32_t packets) {
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame_.data(),
                .data_size_in = static_cast<uint32_t>(frame_.size()), .repeat = static_cast<int>(packets),
                .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
    const int error = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.make), &options);
    if (error != 0) failed("send", -error);
  }
  [[nodiscard]] uint64_t arrived() const { return __atomic_load_n(&skeleton_->bss->arrived, __ATOMIC_RELAXED); }
  [[nodiscard]] uint64_t others() const { return __atomic_load_n(&skeleton_->bss->others, __ATOMIC_RELAXED); }

 private:
  [[noreturn]] void failed(const char* what, int error) const {
    throw std::runtime_error(fmt::format("{}: {}", what, strerror(error)));
  }

  live_bench_bpf* skeleton_;
  uint32_t device_;
  Frame frame_;
};

int run(const Arguments& arguments) {
  Traffic traffic(arguments);
  // Many packets are lost where they come in faster than they are taken: until each flow is known, but for a few.
  const double deadline = seconds_now() + kPatience;
  while (traffic.arrived() < 8UL * arguments.flows && seconds_now() < deadline) traffic.send(kAtOnce);
  const uint64_t arrived = traffic.arrived(), others = traffic.others();
  const double thread = thread_seconds(arguments.thread), begin = seconds_now();
  uint64_t sent = 0;
  for (; seconds_now() - begin < arguments.seconds; sent += kAtOnce) traffic.send(kAtOnce);
  fmt::print("{} {} {} {:.4f} {:.4f}\n", sent, traffic.arrived() - arrived, traffic.others() - others,
             seconds_now() - begin, thread_seconds(arguments.thread) - thread);
  return 0;
}

}  // namespace
}  // namespace sluice::bench

int main(int argc, char** argv) {
  try {
    return sluice::bench::run(sluice::bench::parse(argc, argv));
  } catch (const std::exception& failure) {
    fmt::print(stderr, "live-traffic: {}\n", failure.what());
    return 1;
  }
}
