// packet.bpf.c in front of a program, and the time that a packet takes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "tests/bench/packet_shared.h"

struct bpf_program;
struct packet_bench_bpf;

namespace sluice::bench {

using Frame = std::vector<uint8_t>;

enum class Hook : uint8_t { xdp, tc };

// The packets that are made.
struct Stencil {
  bench_shape shape{};
  bench_template headers{};
  Frame frame;  // the first that goes in
};

struct Run {
  double nanoseconds = 0;  // a packet, of this thread
  uint32_t action = 0;     // of the last packet
};

// Packets are measured on the one; what goes on meanwhile does so on the other.
inline constexpr int kCpu = 0, kOtherCpu = 1;
// The calling thread. Throws where there is no such CPU.
void stay_on_cpu(int cpu);

class Harness {
 public:
  // `rows`: how many there may be, where the packets come from such. Throws std::runtime_error.
  Harness(const Stencil& stencil, uint32_t rows, Hook hook, int program);
  ~Harness();
  Harness(const Harness&) = delete;
  Harness& operator=(const Harness&) = delete;

  void set_headers(const bench_template& headers);
  // Which flows come next; begins with the first. flows.mask rows at most.
  void set_flows(const bench_flows& flows);
  // The headers of the packets that come as number 0 to `count` - 1.
  void set_rows(uint32_t count, const std::function<Frame(uint32_t number)>& make);
  // For XDP: attaches the two programs to interfaces, that of BENCH_FLOOR first. The kernel calls attached programs by
  // a list of them in code of its own; one that is not on it is put there for the time of a run, which takes 0.3 ms.
  void attach(const std::array<uint32_t, BENCH_LANES>& interfaces) const;
  // BENCH_FLOOR or BENCH_PROGRAM, so many packets. Throws where the kernel refuses, or a packet could not be made.
  Run run(int lane, uint32_t packets);
  // The next packet of BENCH_FLOOR, as it is made.
  Frame make_one();

 private:
  bool load(const Stencil& stencil, uint32_t rows, int program, uint32_t flags);
  void map_rows(uint32_t rows);
  bool put_behind(uint32_t lane, int program);
  [[nodiscard]] const bpf_program* before(int lane) const;

  packet_bench_bpf* skeleton_ = nullptr;
  Hook hook_;
  Frame frame_;
  std::span<uint64_t> rows_;
  uint32_t words_;
};

// One frame through a program. Throws where the kernel refuses.
struct Outcome {
  uint32_t action = 0;
  Frame frame;
};
Outcome pass(int program, const Frame& frame);

}  // namespace sluice::bench
