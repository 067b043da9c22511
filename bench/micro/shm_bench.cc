// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What the shm provider takes from bare memory: writes with immediate to another process against
// memcpy of the same bytes to the same place, and an immediate there and back against a futex there
// and back. Both processes are pinned, one processor each; median of interleaved repeats.
//
// Either way one copy is made, by this process: a byte is read here and written in the peer's
// memory. The memcpy goes to the peer's region too, mapped, because not all memory is alike:
// private memory lies on huge pages, shared memory only where shmem_enabled (docs of
// transparent_hugepage) is "advise" or more, and copying to small pages is slower. A line of its
// own says by how much.
//
//   shm_bench [repeats=7] [mib=256] [spin]
//
// Bars: ≥ 0.90 of memcpy at 256 KiB … 4 MiB, round trip ≤ 2 times the futexes'. The last line says
// whether they were met; exit 3 if not. "spin" polls instead of sleeping: for four processors and
// more.

#include <fmt/format.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <vector>

#include "transport/base/host_memory.h"
#include "transport/providers.h"

namespace penstock::bench {
namespace {

constexpr std::size_t kBytes = std::size_t{64} << 20;       // of each buffer: beyond the caches
constexpr std::size_t kWindowBytes = std::size_t{8} << 20;  // writes outstanding
constexpr std::size_t kLeastWindow = 4, kMostWindow = 256;
constexpr double kCopyBar = 0.90;
constexpr double kRoundTripBar = 2.0;
// Immediates that ask the other process for something.
enum : std::uint32_t { kCount, kAnswer, kFutexes, kQuit };

struct Settings {
  std::size_t repeats = 7;
  std::size_t mib = 256;
  bool spin = false;
};

// What the two processes share besides the transport; before the fork.
struct Common {
  std::array<char, 64> address{};
  RemoteRegion region;
  std::atomic<std::uint32_t> ready{0};
  std::uint32_t rounds = 0;
  alignas(64) std::atomic<std::uint32_t> ping{0};
  alignas(64) std::atomic<std::uint32_t> pong{0};
};

// Wall time, and processor time of this process: the latter also tells on a busy machine.
struct Cost {
  double wall_s = 0, cpu_s = 0;
};
Cost now() {
  const auto read = [](clockid_t clock) {
    timespec time{};
    CHECK(clock_gettime(clock, &time) == 0);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  return {read(CLOCK_MONOTONIC), read(CLOCK_PROCESS_CPUTIME_ID)};
}
Cost since(const Cost& start) {
  const Cost end = now();
  return {end.wall_s - start.wall_s, end.cpu_s - start.cpu_s};
}

void pin(int index) {
  cpu_set_t allowed, one;
  CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  int seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || seen++ != index % CPU_COUNT(&allowed)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    return;
  }
}

// The bare ping-pong: one word each way, sleeping in the kernel.
void wait_for(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  for (std::uint32_t seen = word; seen != value; seen = word)
    ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, nullptr, nullptr, 0);
}
void set(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  word = value;
  ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

class Side {
 public:
  Side(const Clock& clock, Access access, bool spin)
      : device_(open_device({.provider = "shm"}, clock).value()),
        queue_(device_->create_completion_queue(256).value()),
        region_(device_->allocate_memory(kBytes, access).value()),
        spin_(spin) {
    std::memset(region_->bytes().data(), 1, kBytes);
  }

  Device& device() { return *device_; }
  CompletionQueue& queue() { return *queue_; }
  const MemoryRegion& region() const { return *region_; }
  Endpoint& endpoint() { return *endpoint_; }
  void adopt(std::unique_ptr<Endpoint> endpoint) { endpoint_ = std::move(endpoint); }

  void write(std::size_t bytes, std::size_t index, const RemoteRegion& remote,
             std::uint32_t immediate) {
    const std::size_t offset = bytes == 0 ? 0 : index % (kBytes / bytes) * bytes;
    const Status status = endpoint_->post({.opcode = Opcode::kWrite,
                                           .has_immediate = true,
                                           .immediate = immediate,
                                           .tag = index,
                                           .local = region_.get(),
                                           .local_offset = offset,
                                           .length = bytes,
                                           .remote = &remote,
                                           .remote_offset = offset});
    CHECK(status.ok(), "{}", status.to_string());
  }

  // Polls once; sleeps when nothing happened, unless spinning.
  template <class OnEvent>
  void turn(OnEvent on_event) {
    std::array<Completion, 64> out;
    const std::size_t count = queue_->poll(out);
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(out[i].code == Code::kOk, "{}", endpoint_->status().to_string());
      on_event(out[i]);
    }
    if (count > 0 || spin_ || !queue_->arm()) return;
    pollfd wait{queue_->fd(), POLLIN, 0};
    CHECK(::poll(&wait, 1, 10'000) == 1, "the peer went silent");
  }

  void until_connected() {
    while (!endpoint_->connected()) {
      device_->progress();
      std::array<Completion, 1> out;
      (void)queue_->poll(out);
      sched_yield();
    }
  }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<CompletionQueue> queue_;
  std::unique_ptr<MemoryRegion> region_;
  std::unique_ptr<Endpoint> endpoint_;
  bool spin_;
};

// The other process: does what immediates say.
void serve(Common& common, const EndpointOptions& options, bool spin) {
  pin(1);
  const SystemClock clock;
  Side side(clock, Access::kRemoteWrite, spin);
  side.adopt(side.device().accept(side.queue(), options).value());
  common.region = side.region().describe();
  side.device().address().copy(common.address.data(), common.address.size() - 1);
  set(common.ready, 1);
  side.until_connected();
  for (bool quit = false; !quit;)
    side.turn([&](const Completion& event) {
      if (event.event != Event::kImmediate) return;
      if (event.immediate == kAnswer) side.write(0, 0, common.region, kCount);
      quit |= event.immediate == kQuit;
      if (event.immediate != kFutexes) return;
      for (std::uint32_t i = 1; i <= common.rounds; ++i) {
        wait_for(common.ping, i);
        set(common.pong, i);
      }
    });
}

class Bench {
 public:
  Bench(Common& common, Side& side)
      : common_(common), side_(side), private_(HostMemory::allocate(kBytes).value()) {
    std::memset(private_.bytes().data(), 1, kBytes);
    while (shared_ == nullptr)
      shared_ = side_.endpoint().map(common_.region, Access::kRemoteWrite).value();
  }

  // Cost of `count` writes of `bytes`, until the other process has seen the last immediate.
  Cost writes(std::size_t bytes, std::size_t count) {
    const Cost start = now();
    const std::size_t window = std::clamp(kWindowBytes / bytes, kLeastWindow, kMostWindow);
    std::size_t posted = 0, completed = 0;
    bool answered = false;
    while (!answered) {
      for (; posted < count && posted - completed < window; ++posted)
        side_.write(bytes, posted, common_.region, posted + 1 == count ? kAnswer : kCount);
      side_.turn([&](const Completion& event) {
        completed += event.event == Event::kWriteDone;
        answered |= event.event == Event::kImmediate;
      });
    }
    return since(start);
  }
  std::span<std::byte> shared_bytes() const { return shared_->bytes(); }
  std::span<std::byte> private_bytes() const { return private_.bytes(); }
  Cost copies(std::size_t bytes, std::size_t count, std::span<std::byte> to) {
    const Cost start = now();
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t offset = i % (kBytes / bytes) * bytes;
      std::memcpy(to.data() + offset, side_.region().bytes().data() + offset, bytes);
      asm volatile("" ::: "memory");
    }
    return since(start);
  }
  Cost doorbells(std::uint32_t rounds) {
    const Cost start = now();
    for (std::uint32_t i = 0; i < rounds; ++i) {
      side_.write(0, i, common_.region, kAnswer);
      for (bool answered = false; !answered;)
        side_.turn([&](const Completion& event) { answered |= event.event == Event::kImmediate; });
    }
    return since(start);
  }
  Cost futexes(std::uint32_t rounds) {
    common_.rounds = rounds;
    common_.ping = common_.pong = 0;
    tell(kFutexes);
    const Cost start = now();
    for (std::uint32_t i = 1; i <= rounds; ++i) {
      set(common_.ping, i);
      wait_for(common_.pong, i);
    }
    return since(start);
  }
  void tell(std::uint32_t what) {
    side_.write(0, 0, common_.region, what);
    bool done = false;
    while (!done)
      side_.turn([&](const Completion& event) { done |= event.event == Event::kWriteDone; });
  }

 private:
  Common& common_;
  Side& side_;
  const HostMemory private_;
  std::shared_ptr<RemoteMapping> shared_;  // the peer's region
};

struct Row {  // medians, and the lowest and highest ratio
  double ours_s, plain_s, ratio, low, high, cpu_ratio;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Row compare(std::size_t repeats, const std::function<Cost()>& ours,
            const std::function<Cost()>& plain) {
  (void)ours();  // warm-up: pages, mappings
  (void)plain();
  std::vector<double> our_s, plain_s, ratios, cpu_ratios;
  for (std::size_t i = 0; i < repeats; ++i) {
    const Cost our_cost = ours(), plain_cost = plain();
    our_s.push_back(our_cost.wall_s);
    plain_s.push_back(plain_cost.wall_s);
    ratios.push_back(our_cost.wall_s / plain_cost.wall_s);
    cpu_ratios.push_back(our_cost.cpu_s / plain_cost.cpu_s);
  }
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return {median(our_s), median(plain_s), median(ratios), *low, *high, median(cpu_ratios)};
}

int run(Bench& bench, const Settings& settings) {
  fmt::print(
      "shm provider against bare memory, two pinned processes, {},\n"
      "medians of {} interleaved repeats of {} MiB\n\n"
      "writes with immediate | memcpy\n{:>10} {:>14} {:>14} {:>7} {:>15} {:>12}\n",
      settings.spin ? "spinning" : "sleeping when idle", settings.repeats, settings.mib, "bytes",
      "penstock GB/s", "memcpy GB/s", "ratio", "range", "cpu ratio");
  bool copy_met = true;
  for (const std::size_t bytes : {4096, 65536, 262144, 1048576, 4194304}) {
    const std::size_t count = std::max<std::size_t>((settings.mib << 20) / bytes, 16);
    const Row row = compare(
        settings.repeats, [&] { return bench.writes(bytes, count); },
        [&] { return bench.copies(bytes, count, bench.shared_bytes()); });
    const double gb = static_cast<double>(bytes * count) * 1e-9;
    fmt::print("{:>10} {:>14.2f} {:>14.2f} {:>7.2f} {:>8.2f} … {:.2f} {:>12.2f}\n", bytes,
               gb / row.ours_s, gb / row.plain_s, 1 / row.ratio, 1 / row.high, 1 / row.low,
               1 / row.cpu_ratio);
    std::fflush(stdout);
    if (bytes >= 262144) copy_met &= 1 / row.ratio >= kCopyBar;
  }
  constexpr std::size_t kMib = std::size_t{1} << 20;
  const Row pages = compare(
      settings.repeats, [&] { return bench.copies(kMib, settings.mib, bench.shared_bytes()); },
      [&] { return bench.copies(kMib, settings.mib, bench.private_bytes()); });
  fmt::print("\nmemcpy to that memory is {:.2f} ({:.2f} … {:.2f}) of memcpy to private memory\n",
             1 / pages.ratio, 1 / pages.high, 1 / pages.low);
  constexpr std::uint32_t kRounds = 5'000;
  const Row row = compare(
      settings.repeats, [&] { return bench.doorbells(kRounds); },
      [&] { return bench.futexes(kRounds); });
  const bool bell_met = row.ratio <= kRoundTripBar;
  fmt::print(
      "\nround trip of an immediate {:.2f} us, of a futex {:.2f} us: {:.2f} times ({:.2f} … "
      "{:.2f})\n\nbars: {:.2f} of memcpy {}, {:.1f} futex round trips {}\n",
      row.ours_s / kRounds * 1e6, row.plain_s / kRounds * 1e6, row.ratio, row.low, row.high,
      kCopyBar, copy_met ? "met" : "MISSED", kRoundTripBar, bell_met ? "met" : "MISSED");
  return copy_met && bell_met ? 0 : 3;
}

int start(const Settings& settings) {
  void* const shared =
      ::mmap(nullptr, sizeof(Common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  auto& common = *new (shared) Common;
  EndpointOptions options;
  options.token = random_token();
  const pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) {
    serve(common, options, settings.spin);
    ::_exit(0);
  }
  pin(0);
  wait_for(common.ready, 1);
  const SystemClock clock;
  Side side(clock, Access::kLocal, settings.spin);
  side.adopt(side.device().connect(side.queue(), common.address.data(), options).value());
  side.until_connected();
  Bench bench(common, side);
  const int result = run(bench, settings);
  side.write(0, 0, common.region, kQuit);
  for (int status = 0; ::waitpid(child, &status, WNOHANG) == 0;) {
    std::array<Completion, 4> out;
    (void)side.queue().poll(out);
  }
  return result;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  penstock::bench::Settings settings;
  std::vector<std::size_t*> numbers{&settings.repeats, &settings.mib};
  std::size_t next = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "spin") == 0) {
      settings.spin = true;
    } else if (next < numbers.size() && std::atol(argv[i]) > 0) {
      *numbers[next++] = static_cast<std::size_t>(std::atol(argv[i]));
    } else {
      fmt::print(stderr, "usage: {} [repeats] [mib] [spin]\n", argv[0]);
      return 64;
    }
  }
  return penstock::bench::start(settings);
}
