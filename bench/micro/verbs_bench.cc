// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The verbs provider on its own: the bandwidth of writes and the latency of writes with an
// immediate, between two devices of this process.
//
//   verbs_bench bw <bytes> [count=2000] [window=64]     MiB/s
//   verbs_bench lat <bytes> [count=1000] [spin|sleep]   µs one way, median: half a round trip
//
// spin: both threads poll and yield; sleep: they wait on the queue's descriptor when idle.

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include "transport/base/check.h"
#include "transport/providers.h"

namespace penstock::bench {
namespace {

double now_us() {
  return std::chrono::duration<double, std::micro>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A device with a lane, an endpoint to the other side, bytes to send and bytes to be written.
struct Side {
  std::unique_ptr<Device> device;
  std::unique_ptr<CompletionQueue> queue;
  std::vector<std::byte> out, in;
  std::unique_ptr<MemoryRegion> source, target;
  std::unique_ptr<Endpoint> endpoint;
  RemoteRegion remote;
  std::uint64_t done = 0;
  std::uint64_t arrived = 0;

  Side(std::size_t bytes, const Clock& clock) : out(bytes), in(bytes) {
    DeviceOptions options;
    options.provider = "verbs";
    auto opened = open_device(options, clock);
    if (!opened.ok()) {
      fmt::print(stderr, "verbs_bench: {}\n", opened.status().to_string());
      std::exit(1);
    }
    device = std::move(*opened);
    queue = device->create_completion_queue(256).value();
    source = device->register_memory(out, MemoryKind::kHost, Access::kLocal).value();
    target = device->register_memory(in, MemoryKind::kHost, Access::kRemoteWrite).value();
  }

  std::size_t poll() {
    std::array<Completion, 32> taken;
    const std::size_t count = queue->poll(taken);
    for (const Completion& event : std::span(taken.data(), count)) {
      CHECK(event.code == Code::kOk, "{}", endpoint->status().to_string());
      done += event.event == Event::kWriteDone ? 1 : 0;
      arrived += event.event == Event::kImmediate ? 1 : 0;
    }
    return count;
  }
  void write(bool immediate) {
    WorkRequest request;
    request.has_immediate = immediate;
    request.local = source.get();
    request.length = out.size();
    request.remote = &remote;
    const Status status = endpoint->post(request);
    CHECK(status.ok(), "{}", status.to_string());
  }
};

void connect(Side& a, Side& b) {
  EndpointOptions options;
  options.token = random_token();
  b.endpoint = b.device->accept(*b.queue, options).value();
  a.endpoint = a.device->connect(*a.queue, b.device->address(), options).value();
  while (!a.endpoint->connected() || !b.endpoint->connected()) {
    a.poll();
    b.poll();
    b.device->progress();
    std::this_thread::yield();
  }
  a.remote = b.target->describe();
  b.remote = a.target->describe();
}

void bandwidth(Side& a, std::uint64_t count, std::uint64_t window) {
  const std::uint64_t warm = std::min<std::uint64_t>(count / 10, window);
  std::uint64_t posted = 0;
  const auto run = [&](std::uint64_t goal) {
    while (a.done < goal) {
      while (posted < goal && posted - a.done < window) {
        a.write(false);
        ++posted;
      }
      a.poll();
    }
  };
  run(warm);
  const double start = now_us();
  run(warm + count);
  const double mib = static_cast<double>(count * a.out.size()) / (1 << 20);
  fmt::print("{} {:.2f}\n", a.out.size(), mib / ((now_us() - start) * 1e-6));
}

// Waits for arrival number `goal`.
void await(Side& side, std::uint64_t goal, bool sleep) {
  while (side.arrived < goal) {
    if (side.poll() > 0) continue;
    if (!sleep) {
      std::this_thread::yield();
    } else if (side.queue->arm()) {
      pollfd wait{side.queue->fd(), POLLIN, 0};
      CHECK(::poll(&wait, 1, 10'000) == 1, "nothing arrives");
    }
  }
}

void latency(Side& a, Side& b, std::uint64_t count, bool sleep) {
  constexpr std::uint64_t kWarm = 50;
  std::vector<double> halves;
  std::thread echo([&] {
    for (std::uint64_t i = 1; i <= count + kWarm; ++i) {
      await(b, i, sleep);
      b.write(true);
    }
    (void)b.queue->arm();
  });
  for (std::uint64_t i = 1; i <= count + kWarm; ++i) {
    const double start = now_us();
    a.write(true);
    await(a, i, sleep);
    if (i > kWarm) halves.push_back((now_us() - start) / 2);
  }
  echo.join();
  std::sort(halves.begin(), halves.end());
  fmt::print("{} {:.2f}\n", a.out.size(), halves[halves.size() / 2]);
}

int run(std::span<char*> arguments) {
  if (arguments.size() < 3) {
    fmt::print(stderr, "usage: verbs_bench bw|lat BYTES [COUNT] [WINDOW|spin|sleep]\n");
    return 2;
  }
  const std::string_view what = arguments[1];
  const auto number = [&](std::size_t i, std::uint64_t otherwise) {
    return arguments.size() > i ? std::strtoull(arguments[i], nullptr, 10) : otherwise;
  };
  const SystemClock clock;
  Side a(number(2, 1), clock), b(number(2, 1), clock);
  connect(a, b);
  if (what == "bw")
    bandwidth(a, number(3, 2'000), number(4, 64));
  else
    latency(a, b, number(3, 1'000),
            arguments.size() > 4 && std::string_view(arguments[4]) == "sleep");
  for (Side* side : {&a, &b}) side->endpoint.reset();
  return 0;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  return penstock::bench::run({argv, static_cast<std::size_t>(argc)});
}
