// The programs attached to real devices, with real sockets at both ends: what BPF_PROG_TEST_RUN cannot show. Checksums
// that are left to the device, packets that are cut up after the programs have seen them, and where a redirect goes.
//
//   client namespace 198.18.0.2 -- out, 198.18.0.1 [this namespace] back, 198.19.0.1 -- 198.19.0.2 backend namespace
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "bpf/sluice.skel.h"
#include "bpf/stack.skel.h"
#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

constexpr Mac kOutMac{0x02, 0x5c, 0, 0, 0, 0x11}, kBackMac{0x02, 0x5c, 0, 0, 0, 0x12};
constexpr size_t kTransfer = 4 << 20;

sockaddr_in socket_address(Endpoint end) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(end.address.last());
  address.sin_port = htons(end.port);
  return address;
}

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {
    if (fd < 0) throw std::runtime_error(std::strerror(errno));
    const timeval deadline{.tv_sec = 10, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline));
  }
  ~Socket() { close(fd_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  void bind_to(Endpoint end) const {
    const sockaddr_in address = socket_address(end);
    check(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), "bind");
  }
  void connect_to(Endpoint end) const {
    const sockaddr_in address = socket_address(end);
    check(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), "connect");
  }
  static void check(int result, const char* what) {
    if (result < 0) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
  }

 private:
  int fd_;
};

// A counter of /proc/net/snmp of the calling thread's namespace.
uint64_t snmp(const std::string& protocol, const std::string& name) {
  std::ifstream file("/proc/thread-self/net/snmp");
  std::string names, values;
  while (std::getline(file, names) && std::getline(file, values)) {
    if (!names.starts_with(protocol + ":")) continue;
    std::istringstream n(names), v(values);
    std::string key, value;
    while (n >> key && v >> value)
      if (key == name) return std::stoull(value);
  }
  throw std::runtime_error("no counter " + protocol + " " + name);
}

// Serves one TCP connection and sends everything back, in pieces large enough for the kernel to make large packets of.
void echo_once(const Socket& listener) {
  const Socket connection(accept(listener.fd(), nullptr, nullptr));
  std::vector<char> buffer(1 << 18);
  for (ssize_t size = 0; (size = recv(connection.fd(), buffer.data(), buffer.size(), 0)) > 0;)
    for (ssize_t sent = 0; sent < size;) {
      const ssize_t part = send(connection.fd(), buffer.data() + sent, static_cast<size_t>(size - sent), MSG_NOSIGNAL);
      Socket::check(static_cast<int>(part), "send");
      sent += part;
    }
}

class LiveTest : public ::testing::Test {
 public:
  LiveTest(const LiveTest&) = delete;
  LiveTest& operator=(const LiveTest&) = delete;

 protected:
  LiveTest() {
    connect_namespace(client_, "out", kOutMac, "198.18.0");
    connect_namespace(backend_, "back", kBackMac, "198.19.0");
    ip_commands("addr add 10.244.0.5/32 dev lo\n");
    plane_ = std::make_unique<Dataplane>(Options{.interface = if_nametoindex("out"), .egress = 4, .mac = kOutMac});
    plane_back_ = std::make_unique<Dataplane>(
        Options{.interface = if_nametoindex("back"), .egress = 3, .mac = kBackMac, .maps_of = plane_.get()});
    attach(*plane_, "out");
    attach(*plane_back_, "back");
    way_out(3, "back", kBackMac, ip("198.19.0.1"));
    way_out(4, "out", kOutMac, ip("198.18.0.1"));
    client_.run([this] {
      tcp_errors_ = snmp("Tcp", "InCsumErrors");
      udp_errors_ = snmp("Udp", "InCsumErrors");
    });
  }
  ~LiveTest() override {
    plane_back_.reset();
    plane_.reset();
    ip_commands("link del out\nlink del back\naddr del 10.244.0.5/32 dev lo\n");
  }

  void way_out(uint32_t index, const std::string& name, const Mac& mac, uint32_t source) const {
    sluice_egress out{};
    out.ifindex = out.device = if_nametoindex(name.c_str());
    out.mtu = 1500;
    out.source4 = htonl(source);
    std::copy(mac.begin(), mac.end(), out.mac);
    plane_->egress(index) = out;
    plane_->set_key(source, 0, 0, SLUICE_ADDRESS_NODE | SLUICE_ADDRESS_NAT);
  }

  // A veth pair to a namespace, <net>.1 here and <net>.2 there. Over there checksums are computed by the sender, since
  // native XDP cannot tell one that is left to the device, and packets are received by NAPI (GRO), without which no
  // redirect arrives.
  static void connect_namespace(const Namespace& there, const std::string& name, const Mac& mac,
                                const std::string& net) {
    ip_commands("link add " + name + " type veth peer name far netns " + there.path() + "\naddr add " + net +
                ".1/24 dev " + name + "\nlink set " + name + " address " + text(mac) + " up\n");
    there.run([&] {
      ip_commands("link set lo up\naddr add " + net + ".2/24 dev far\nlink set far up\nroute add default via " + net +
                  ".1\n");
      set_offload("far", Offload::transmit_checksum, false);
      set_offload("far", Offload::generic_receive, true);
    });
  }

  static void attach(const Dataplane& plane, const std::string& interface) {
    const int ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
    LIBBPF_OPTS(bpf_xdp_attach_opts, xdp);
    Socket::check(
        bpf_xdp_attach(ifindex, bpf_program__fd(plane.skeleton()->progs.sluice_xdp), XDP_FLAGS_DRV_MODE, &xdp),
        "attach XDP");
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
    Socket::check(bpf_tc_hook_create(&hook), "make a tc hook");
    LIBBPF_OPTS(bpf_tc_opts, tc, .prog_fd = bpf_program__fd(plane.stack()->progs.sluice_egress));
    Socket::check(bpf_tc_attach(&hook, &tc), "attach tc");
  }

  // Sends kTransfer bytes to the service and compares what comes back.
  void transfer_tcp(Endpoint service) {
    client_.run([&] {
      const Socket socket(::socket(AF_INET, SOCK_STREAM, 0));
      socket.connect_to(service);
      std::vector<char> out(kTransfer), in(kTransfer);
      for (size_t i = 0; i < out.size(); i++) out[i] = static_cast<char>(i * 2654435761U >> 24);
      std::thread sender([&] {
        for (size_t sent = 0; sent < out.size();) {
          const ssize_t part = send(socket.fd(), out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
          if (part <= 0) break;
          sent += static_cast<size_t>(part);
        }
        shutdown(socket.fd(), SHUT_WR);
      });
      size_t received = 0;
      for (ssize_t part = 0; (part = recv(socket.fd(), in.data() + received, in.size() - received, 0)) > 0;)
        received += static_cast<size_t>(part);
      sender.join();
      EXPECT_EQ(received, kTransfer);
      EXPECT_TRUE(in == out);
      EXPECT_EQ(snmp("Tcp", "InCsumErrors"), tcp_errors_) << "checksums that the client found wrong";
    });
  }

  void exchange_udp(Endpoint service, const Socket& server) {
    client_.run([&] {
      const Socket socket(::socket(AF_INET, SOCK_DGRAM, 0));
      socket.connect_to(service);
      for (const size_t size : {1, 2, 512, 1471, 1472}) {
        std::vector<char> out(size, 'x'), in(2000);
        ASSERT_EQ(send(socket.fd(), out.data(), size, 0), static_cast<ssize_t>(size));
        sockaddr_in from{};
        socklen_t length = sizeof(from);
        const ssize_t at_server =
            recvfrom(server.fd(), in.data(), in.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
        ASSERT_EQ(at_server, static_cast<ssize_t>(size));
        ASSERT_EQ(sendto(server.fd(), in.data(), size, 0, reinterpret_cast<sockaddr*>(&from), length),
                  static_cast<ssize_t>(size));
        // A connected socket hears the service alone, not the backend.
        ASSERT_EQ(recv(socket.fd(), in.data(), in.size(), 0), static_cast<ssize_t>(size));
      }
      EXPECT_EQ(snmp("Udp", "InCsumErrors"), udp_errors_) << "checksums that the client found wrong";
    });
  }

  Namespace client_, backend_;
  std::unique_ptr<Dataplane> plane_, plane_back_;
  uint64_t tcp_errors_ = 0, udp_errors_ = 0;
  const Endpoint service_ = at("203.0.113.10", 80);
};

TEST_F(LiveTest, RepliesOfALocalBackendInLargePacketsReachTheClientWhoeverComputesTheirChecksums) {
  const Endpoint backend = at("10.244.0.5", 8080);
  const Service service = plane_->add_service(service_, kTcp, {local_backend(backend)});
  const Socket listener(socket(AF_INET, SOCK_STREAM, 0));
  listener.bind_to(backend);
  Socket::check(listen(listener.fd(), 4), "listen");
  for (const bool device_computes : {true, false}) {
    SCOPED_TRACE(device_computes ? "the device" : "the kernel, after the programs");
    set_offload("out", Offload::transmit_checksum, device_computes);
    std::thread server([&] { echo_once(listener); });
    transfer_tcp(service_);
    server.join();
  }
  const sluice_counters counters = plane_->service_counters(service);
  EXPECT_EQ(counters.flows, 2U);
  EXPECT_GE(counters.returned.packets, 2 * kTransfer / 1448);  // counted as the segments they are cut into
  EXPECT_GE(counters.returned.bytes, 2 * kTransfer);
  for (const Flow& flow : plane_->flows()) EXPECT_TRUE(SLUICE_FLOW_CLOSED(flow.state)) << flow.state;
}

TEST_F(LiveTest, DatagramsOfALocalBackendReachTheClientWhoeverComputesTheirChecksums) {
  const Endpoint backend = at("10.244.0.5", 5353);
  plane_->add_service(service_, kUdp, {local_backend(backend)});
  const Socket server(socket(AF_INET, SOCK_DGRAM, 0));
  server.bind_to(backend);
  for (const bool device_computes : {true, false}) {
    set_offload("out", Offload::transmit_checksum, device_computes);
    exchange_udp(service_, server);
  }
}

TEST_F(LiveTest, NatRedirectsToTheBackendsInterfaceAndBackToTheClients) {
  const Endpoint backend = at("198.19.0.2", 8080);
  Backend record{.end = backend, .forwarding = SLUICE_FORWARD_NAT, .egress = 3};
  backend_.run([&record] { record.mac = mac_of("far"); });
  const Service service = plane_->add_service(service_, kTcp, {record});
  plane_->add_service(service_, kUdp, {record});
  ip_commands("neigh replace 198.18.0.2 lladdr " + text(client_.call<Mac>([] { return mac_of("far"); })) +
              " nud permanent dev out\n");

  std::unique_ptr<Socket> listener, datagrams;
  backend_.run([&] {
    listener = std::make_unique<Socket>(socket(AF_INET, SOCK_STREAM, 0));
    listener->bind_to(backend);
    Socket::check(listen(listener->fd(), 4), "listen");
    datagrams = std::make_unique<Socket>(socket(AF_INET, SOCK_DGRAM, 0));
    datagrams->bind_to(backend);
  });
  std::thread server([&] { echo_once(*listener); });
  transfer_tcp(service_);
  server.join();
  exchange_udp(service_, *datagrams);
  EXPECT_GE(plane_->service_counters(service).returned.packets, kTransfer / 1460);
  EXPECT_EQ(backend_.call<uint64_t>([] { return snmp("Tcp", "InCsumErrors") + snmp("Udp", "InCsumErrors"); }), 0U);
}

}  // namespace
}  // namespace sluice::packets
