// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What the tcp provider adds to and takes from a bare socket: the same bytes between two pinned
// threads through endpoints and through a plain send/recv loop, interleaved, median of repeats.
//
//   tcp_bench [repeats=7] [mib=256] [spin]
//
// Bars: ≥ 0.95 of the plain loop one way at ≥ 256 KiB, a sleeping round trip of 4 KiB in ≤ 1.5
// times the plain one's. The last line says whether they were met; exit 3 if not.

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "bench/micro/tcp_plain.h"
#include "transport/providers.h"

namespace penstock::bench {
namespace {

// In flight until answered: about what the sockets of the plain loop hold of their own accord.
constexpr std::size_t kWindowBytes = std::size_t{8} << 20;
constexpr std::size_t kLeastWindow = 4, kMostWindow = 256;
constexpr double kBandwidthBar = 0.95;
constexpr double kRoundTripBar = 1.5;
constexpr std::size_t kRoundTripBytes = 4096;
constexpr std::size_t kBarBytes = std::size_t{256} << 10;

struct Settings {
  std::size_t repeats = 7;
  std::size_t mib = 256;
  bool spin = false;
};

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void pin(unsigned index) {
  cpu_set_t allowed, one;
  CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
  unsigned seen = 0;
  const auto cpus = static_cast<unsigned>(CPU_COUNT(&allowed));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || seen++ != index % cpus) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK(pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0);
    return;
  }
}

struct Cost {
  double wall_s = 0;
  double cpu_s = 0;  // of both threads, what the kernel did for them included
};

// Runs both sides, each on its own processor, until both are done.
Cost run_both(const std::function<void()>& left, const std::function<void()>& right) {
  const double start = now_s();
  std::array<double, 2> cpu_s{};
  const auto run = [&](unsigned index, const std::function<void()>& side) {
    pin(index);
    side();
    timespec used{};
    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0);
    cpu_s[index] = static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
  };
  std::thread other([&] { run(1, right); });
  std::thread one([&] { run(0, left); });
  one.join();
  other.join();
  return {now_s() - start, cpu_s[0] + cpu_s[1]};
}

// One end of the connection under test: a device, a queue, a region to send from and one to
// receive into.
class Side {
 public:
  Side(const Clock& clock, std::size_t bytes, bool spin)
      : device_(open_device({}, clock).value()),
        queue_(device_->create_completion_queue(256).value()),
        out_(bytes, std::byte{1}),
        in_(bytes, std::byte{2}),
        source_(device_->register_memory(out_, MemoryKind::kHost, Access::kLocal).value()),
        target_(device_->register_memory(in_, MemoryKind::kHost, Access::kRemoteWrite).value()),
        spin_(spin) {}

  Device& device() { return *device_; }
  CompletionQueue& queue() { return *queue_; }
  void adopt(std::unique_ptr<Endpoint> endpoint) { endpoint_ = std::move(endpoint); }
  void set_remote(const Side& peer) { remote_ = peer.target_->describe(); }
  bool connected() {
    return pump([](const Completion&) {}), endpoint_->connected();
  }

  void write(std::size_t bytes, std::size_t index) {
    const std::size_t offset = index % (out_.size() / bytes) * bytes;
    const WorkRequest request{.opcode = Opcode::kWrite,
                              .has_immediate = true,
                              .immediate = static_cast<std::uint32_t>(index),
                              .tag = index,
                              .local = source_.get(),
                              .local_offset = offset,
                              .length = bytes,
                              .remote = &remote_,
                              .remote_offset = offset};
    const Status status = endpoint_->post(request);
    CHECK(status.ok(), "{}", status.to_string());
  }

  // Polls once; sleeps when nothing happened, unless spinning.
  template <class OnEvent>
  void turn(OnEvent on_event) {
    if (pump(on_event) > 0 || spin_ || !queue_->arm()) return;
    pollfd wait{queue_->fd(), POLLIN, 0};
    CHECK(::poll(&wait, 1, 10'000) == 1, "the peer went silent");
  }

  // The last acknowledgement leaves before the thread does.
  void rest() {
    while (!queue_->arm()) pump([](const Completion&) {});
  }

 private:
  template <class OnEvent>
  std::size_t pump(OnEvent on_event) {
    std::array<Completion, 64> out;
    const std::size_t count = queue_->poll(out);
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(out[i].code == Code::kOk, "{}", endpoint_->status().to_string());
      on_event(out[i]);
    }
    return count;
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<CompletionQueue> queue_;
  std::vector<std::byte> out_, in_;
  std::unique_ptr<MemoryRegion> source_, target_;
  std::unique_ptr<Endpoint> endpoint_;
  RemoteRegion remote_;
  bool spin_;
};

void connect(Side& a, Side& b) {
  EndpointOptions options;
  options.token = random_token();
  b.adopt(b.device().accept(b.queue(), options).value());
  a.adopt(a.device().connect(a.queue(), b.device().address(), options).value());
  a.set_remote(b);
  b.set_remote(a);
  for (bool up = false; !up;) {
    b.device().progress();
    const bool a_up = a.connected(), b_up = b.connected();
    up = a_up && b_up;
  }
}

// Keeps `window` writes outstanding until `count` have completed. With `answered`, a write counts
// when the peer's answer arrived.
void drive(Side& side, std::size_t bytes, std::size_t count, std::size_t window, bool answered) {
  std::size_t posted = 0, finished = 0, completed = 0;
  while (finished < count || completed < count) {
    for (; posted < count && posted - finished < window && posted - completed < window; ++posted)
      side.write(bytes, posted);
    side.turn([&](const Completion& event) {
      completed += event.event == Event::kWriteDone;
      finished += event.event == (answered ? Event::kImmediate : Event::kWriteDone);
    });
  }
  side.rest();
}

// Takes `count` writes in; answers each with one of the same size if told to.
void serve(Side& side, std::size_t bytes, std::size_t count, bool answer) {
  std::size_t arrived = 0, completed = 0;
  while (arrived < count || (answer && completed < count))
    side.turn([&](const Completion& event) {
      completed += event.event == Event::kWriteDone;
      if (event.event != Event::kImmediate) return;
      if (answer) side.write(bytes, arrived);
      ++arrived;
    });
  side.rest();
}

struct Row {  // medians, and the lowest and highest ratio
  double penstock, plain, ratio, low, high;
  double penstock_cpu, plain_cpu;  // seconds per unit of work
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Row compare(const Settings& settings, double work, const std::function<Cost()>& penstock,
            const std::function<Cost()>& plain) {
  (void)penstock();  // warm-up: windows, caches, page tables
  (void)plain();
  std::vector<double> ours, theirs, ratios, our_cpu, their_cpu;
  for (std::size_t i = 0; i < settings.repeats; ++i) {
    const Cost our_cost = penstock(), their_cost = plain();
    ours.push_back(work / our_cost.wall_s);
    theirs.push_back(work / their_cost.wall_s);
    ratios.push_back(ours.back() / theirs.back());
    our_cpu.push_back(our_cost.cpu_s / work);
    their_cpu.push_back(their_cost.cpu_s / work);
  }
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return {median(ours), median(theirs),  median(ratios),   *low,
          *high,        median(our_cpu), median(their_cpu)};
}

struct Shape {
  std::size_t bytes, window, count, slots;
  Shape(std::size_t message_bytes, const Settings& settings)
      : bytes(message_bytes),
        window(std::clamp(kWindowBytes / bytes, kLeastWindow, kMostWindow)),
        // Small messages move fewer bytes a second: an eighth of the bytes is as long a run.
        count(std::max<std::size_t>((settings.mib << 20) / (bytes < 65536 ? 8 : 1) / bytes, 16)),
        slots(window) {}
  double total() const { return static_cast<double>(bytes) * static_cast<double>(count); }
};

Row bandwidth(const Settings& settings, const Shape& shape, bool two_way) {
  const SystemClock clock;
  const std::size_t buffer = shape.bytes * shape.slots;
  Side a(clock, buffer, settings.spin), b(clock, buffer, settings.spin);
  connect(a, b);
  const SocketPair pair = make_socket_pair();
  std::vector<std::byte> a_out(buffer), a_in(buffer), b_out(buffer), b_in(buffer);
  const std::size_t bytes = shape.bytes, window = shape.window, count = shape.count;
  return compare(
      settings, shape.total() / 1e9,
      [&] {
        return run_both([&] { drive(a, bytes, count, window, two_way); },
                        [&] { serve(b, bytes, count, two_way); });
      },
      [&] {
        if (two_way)
          return run_both([&] { exchange_all(pair.a.get(), a_out, a_in, bytes, count); },
                          [&] { exchange_all(pair.b.get(), b_out, b_in, bytes, count); });
        return run_both([&] { send_all(pair.a.get(), a_out, bytes, count); },
                        [&] { receive_all(pair.b.get(), b_in, bytes, count); });
      });
}

// Microseconds per round trip become a rate, so that above 1 is better here too.
Row latency(const Settings& settings, std::size_t bytes, bool spin) {
  constexpr std::size_t kRounds = 5'000;
  const SystemClock clock;
  Side a(clock, bytes, spin), b(clock, bytes, spin);
  connect(a, b);
  const SocketPair pair = make_socket_pair();
  std::vector<std::byte> left(bytes), right(bytes);
  Row row = compare(
      settings, kRounds,
      [&] {
        return run_both([&] { drive(a, bytes, kRounds, 1, true); },
                        [&] { serve(b, bytes, kRounds, true); });
      },
      [&] {
        return run_both([&] { ping(pair.a.get(), left, bytes, kRounds, spin); },
                        [&] { pong(pair.b.get(), right, bytes, kRounds, spin); });
      });
  row.penstock = 1e6 / row.penstock;
  row.plain = 1e6 / row.plain;
  return row;
}

bool table(const Settings& settings, const char* title, bool two_way) {
  fmt::print("\n{}\n{:>10} {:>7} {:>14} {:>11} {:>7} {:>15} {:>18}\n", title, "bytes", "window",
             "penstock GB/s", "plain GB/s", "ratio", "lowest-highest", "cpu-s/GB (plain)");
  bool met = true;
  for (std::size_t bytes = 4096; bytes <= std::size_t{4} << 20; bytes *= 4) {
    const Shape shape(bytes, settings);
    const Row row = bandwidth(settings, shape, two_way);
    fmt::print("{:>10} {:>7} {:>14.2f} {:>11.2f} {:>7.2f} {:>10.2f}-{:.2f} {:>10.2f} ({:.2f})\n",
               bytes, shape.window, row.penstock, row.plain, row.ratio, row.low, row.high,
               row.penstock_cpu, row.plain_cpu);
    std::fflush(stdout);
    if (bytes >= kBarBytes) met &= row.ratio >= kBandwidthBar;
  }
  return met;
}

bool round_trips(const Settings& settings) {
  fmt::print("\nround trip\n{:>10} {:>10} {:>14} {:>11} {:>7} {:>15}\n", "bytes", "", "penstock us",
             "plain us", "times", "lowest-highest");
  bool met = true;
  for (const std::size_t bytes : {std::size_t{64}, kRoundTripBytes}) {
    for (const bool spin : {false, true}) {
      const Row row = latency(settings, bytes, spin);
      fmt::print("{:>10} {:>10} {:>14.1f} {:>11.1f} {:>7.2f} {:>10.2f}-{:.2f}\n", bytes,
                 spin ? "spinning" : "sleeping", row.penstock, row.plain, 1 / row.ratio,
                 1 / row.high, 1 / row.low);
      if (bytes == kRoundTripBytes && !spin) met = 1 / row.ratio <= kRoundTripBar;
    }
  }
  return met;
}

int run(const Settings& settings) {
  fmt::print(
      "tcp provider against plain sockets, 127.0.0.1, one stream, two pinned threads, {},\n"
      "medians of {} interleaved repeats of {} MiB\n",
      settings.spin ? "spinning" : "sleeping when idle", settings.repeats, settings.mib);
  const bool one_way = table(settings, "one way: writes with immediate | send, recv", false);
  (void)table(settings, "two ways: each write answered by one of its size | duplex send, recv",
              true);
  const bool round_trip = round_trips(settings);
  fmt::print(
      "\nbars: one way ≥ {:.2f} of plain at ≥ 256 KiB {}; {} byte round trip ≤ {:.1f} times plain "
      "{}\n",
      kBandwidthBar, one_way ? "met" : "MISSED", kRoundTripBytes, kRoundTripBar,
      round_trip ? "met" : "MISSED");
  return one_way && round_trip ? 0 : 3;
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
  return penstock::bench::run(settings);
}
