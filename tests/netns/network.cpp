#include "tests/netns/network.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <utility>

namespace sluice::lab {
namespace {

constexpr size_t kArpFrame = 42;
constexpr size_t kOperation = 21;  // low byte
constexpr size_t kSenderMac = 22;
constexpr size_t kSenderAddress = 28;
constexpr size_t kTargetAddress = 38;

std::string script() {
  return std::string(SLUICE_SOURCE_DIR) + "/tests/netns/lab";
}

void must(const std::string& line) {
  const auto outcome = command(line);
  if (outcome.exit_code != 0) throw std::runtime_error(line + ": " + outcome.output);
}

uint32_t to_word(const std::string& address) {
  in_addr parsed{};
  if (inet_pton(AF_INET, address.c_str(), &parsed) != 1) throw std::runtime_error("no address: " + address);
  return parsed.s_addr;
}

uint32_t word_at(const std::array<uint8_t, 64>& frame, size_t offset) {
  uint32_t word = 0;
  std::memcpy(&word, frame.data() + offset, sizeof word);
  return word;
}

// A raw socket for ARP on eth0; to be made inside the namespace.
int arp_socket() {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETHERTYPE_ARP));
  sockaddr_ll where{};
  where.sll_family = AF_PACKET;
  where.sll_protocol = htons(ETHERTYPE_ARP);
  where.sll_ifindex = static_cast<int>(if_nametoindex("eth0"));
  if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&where), sizeof where) < 0) {
    throw std::runtime_error("no packet socket");
  }
  return fd;
}

std::array<uint8_t, kArpFrame> arp_request(uint32_t address) {
  std::array<uint8_t, kArpFrame> frame{};
  std::memset(frame.data(), 0xff, 6);
  const std::array<uint8_t, 16> head = {0x02, 0, 0, 0x5a, 0, 0x01, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1};
  std::memcpy(frame.data() + 6, head.data(), head.size());
  std::memcpy(frame.data() + kSenderMac, head.data(), 6);
  const uint32_t sender = to_word(kClient);
  std::memcpy(frame.data() + kSenderAddress, &sender, 4);
  std::memcpy(frame.data() + kTargetAddress, &address, 4);
  return frame;
}

}  // namespace

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds deadline) {
  const auto until = Clock::now() + deadline;
  for (;;) {
    if (condition()) return true;
    if (Clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

CommandOutcome command(const std::string& line) {
  CommandOutcome outcome;
  FILE* pipe = popen((line + " 2>&1 </dev/null").c_str(), "re");
  if (pipe == nullptr) return outcome;
  std::array<char, 4096> part{};
  size_t got = 0;
  while ((got = std::fread(part.data(), 1, part.size(), pipe)) > 0) outcome.output.append(part.data(), got);
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

void enter(const std::string& ns) {
  const int fd = open(("/run/netns/" + ns).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) {
    std::fprintf(stderr, "cannot enter namespace %s: %s (root is needed)\n", ns.c_str(), std::strerror(errno));
    std::abort();
  }
  close(fd);
}

void Lab::prepare() {
  static std::atomic<int> count{0};
  prefix_ = "slag" + std::to_string(getpid()) + "x" + std::to_string(++count);
  std::string pattern = (std::filesystem::temp_directory_path() / "sluice-lab-XXXXXX").string();
  directory_ = mkdtemp(pattern.data());
  std::filesystem::create_directories("/sys/fs/bpf/" + prefix_);
}

Lab::Lab(int backends, bool with_pod) {
  prepare();
  must(script() + " up " + prefix_ + " " + std::to_string(backends));
  if (with_pod) must(script() + " pod " + prefix_);
}

Lab::Lab(Nodes nodes) {
  prepare();
  must(script() + " nodes " + prefix_ + " " + std::to_string(nodes.count));
  if (nodes.with_router) must(script() + " router " + prefix_);
}

void Lab::add_routed_pod(const std::string& node) const {
  must(script() + " routed " + prefix_ + " " + node);
}

Lab::~Lab() {
  command(script() + " down " + prefix_);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

CommandOutcome Lab::in(const std::string& name, const std::string& line) const {
  return command("nsenter --net=/run/netns/" + ns(name) + " " + line);
}

std::string backend_address(int number) {
  return "10.77.0." + std::to_string(10 + number);
}

std::string node_address(int number, bool ipv6) {
  return (ipv6 ? "fd77::" : "10.77.0.") + std::to_string(number);
}

std::string pod_address(int number, bool ipv6) {
  return ipv6 ? "fd88:" + std::to_string(number) + "::2" : "10.88." + std::to_string(number) + ".2";
}

std::string routed_address(int number, bool ipv6) {
  return ipv6 ? "fd78:" + std::to_string(number) + "::1" : "10.78." + std::to_string(number) + ".1";
}

std::optional<std::array<uint8_t, 6>> ask_arp(const Lab& lab, const std::string& address,
                                              std::chrono::milliseconds patience) {
  using Answer = std::optional<std::array<uint8_t, 6>>;
  const uint32_t wanted = to_word(address);
  return inside(lab.ns("client"), [&]() -> Answer {
    const int fd = arp_socket();
    // A source MAC of its own; the bridge learns it and brings the answer back.
    const auto request = arp_request(wanted);
    Answer answer;
    if (write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
      const auto until = Clock::now() + patience;
      while (!answer && Clock::now() < until) {
        pollfd waiting = {fd, POLLIN, 0};
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
        if (poll(&waiting, 1, static_cast<int>(left)) <= 0) continue;
        std::array<uint8_t, 64> frame{};
        if (read(fd, frame.data(), frame.size()) < static_cast<ssize_t>(kArpFrame)) continue;
        if (frame[kOperation] != 2 || word_at(frame, kSenderAddress) != wanted) continue;
        answer.emplace();
        std::memcpy(answer->data(), frame.data() + kSenderMac, answer->size());
      }
    }
    close(fd);
    return answer;
  });
}

ArpListener::ArpListener(const Lab& lab, const std::string& address)
    : address_(to_word(address)), fd_(inside(lab.ns("client"), [] { return arp_socket(); })) {}

ArpListener::~ArpListener() {
  close(fd_);
}

ArpListener::Seen ArpListener::seen() {
  std::array<uint8_t, 64> frame{};
  while (read(fd_, frame.data(), frame.size()) >= static_cast<ssize_t>(kArpFrame)) {
    if (word_at(frame, kSenderAddress) != address_ || word_at(frame, kTargetAddress) != address_) continue;
    ++(frame[kOperation] == 1 ? seen_.requests : seen_.replies);
  }
  return seen_;
}

}  // namespace sluice::lab
