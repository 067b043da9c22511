// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What NCCL's plugin takes from the provider under it: isend and irecv through the library's v12
// table against writes with immediate on a bare endpoint of the same transport, interleaved in one
// run, a sending and a receiving thread that poll and yield when they find nothing, as NCCL's do.
//
//   nccl_net_bench [tcp|verbs] [repeats=7] [mib=256]

#include <dlfcn.h>
#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "bindings/nccl/abi.h"
#include "transport/providers.h"

namespace penstock::bench {
namespace {

using nccl::NcclResult;

constexpr std::size_t kWindow = 8;  // transfers in flight: NCCL_STEPS

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double run_both(const std::function<void()>& left, const std::function<void()>& right) {
  const double start = now_s();
  std::thread other(right);
  left();
  other.join();
  return now_s() - start;
}

void ok(NcclResult result) { CHECK(result == NcclResult::kSuccess, "the plugin refused"); }

// Both ends of one connection through the plugin.
class PluginPair {
 public:
  PluginPair(const nccl::NetV12& net, std::size_t bytes)
      : net_(net), out_(kWindow * bytes, std::byte{1}), in_(kWindow * bytes), bytes_(bytes) {
    std::array<std::byte, nccl::kHandleBytes> handle{};
    void *listener = nullptr, *unused = nullptr;
    ok(net_.listen(nullptr, 0, handle.data(), &listener));
    while (sender_ == nullptr || receiver_ == nullptr) {
      if (sender_ == nullptr) ok(net_.connect(nullptr, 0, handle.data(), &sender_, &unused));
      if (receiver_ == nullptr) ok(net_.accept(listener, &receiver_, &unused));
    }
    ok(net_.close_listen(listener));
    ok(net_.register_memory(sender_, out_.data(), out_.size(), nccl::kPointerHost, &source_));
    ok(net_.register_memory(receiver_, in_.data(), in_.size(), nccl::kPointerHost, &target_));
  }
  ~PluginPair() {
    ok(net_.deregister(sender_, source_));
    ok(net_.deregister(receiver_, target_));
    ok(net_.close_send(sender_));
    ok(net_.close_receive(receiver_));
  }
  PluginPair(const PluginPair&) = delete;
  PluginPair& operator=(const PluginPair&) = delete;

  void send(std::size_t count) {
    transfer(count, [&](std::size_t i, void** request) {
      return net_.send(sender_, out_.data() + i % kWindow * bytes_, bytes_, 0, source_, nullptr,
                       request);
    });
  }
  void receive(std::size_t count) {
    transfer(count, [&](std::size_t i, void** request) {
      void* data = in_.data() + i % kWindow * bytes_;
      int tag = 0;
      std::size_t size = bytes_;
      return net_.receive(receiver_, 1, &data, &size, &tag, &target_, nullptr, request);
    });
  }

 private:
  template <class Start>
  void transfer(std::size_t count, Start start) {
    std::array<void*, kWindow> requests{};
    std::size_t started = 0, done = 0;
    while (done < count) {
      if (started < count && started - done < kWindow) {
        void* request = nullptr;
        ok(start(started, &request));
        if (request != nullptr) requests[started++ % kWindow] = request;
      }
      int over = 0;
      if (done < started) ok(net_.test(requests[done % kWindow], &over, nullptr));
      done += over != 0 ? 1 : 0;
      if (over == 0) ::sched_yield();
    }
  }

  const nccl::NetV12& net_;
  std::vector<std::byte> out_, in_;
  const std::size_t bytes_;
  void *sender_ = nullptr, *receiver_ = nullptr, *source_ = nullptr, *target_ = nullptr;
};

// Both ends of one connection of the bare provider.
class RawPair {
 public:
  RawPair(const std::string& transport, const Clock& clock, std::size_t bytes)
      : out_(kWindow * bytes, std::byte{1}), in_(kWindow * bytes), bytes_(bytes) {
    for (auto* device : {&a_, &b_}) *device = open_device({.provider = transport}, clock).value();
    a_queue_ = a_->create_completion_queue(64).value();
    b_queue_ = b_->create_completion_queue(64).value();
    source_ = a_->register_memory(out_, MemoryKind::kHost, Access::kLocal).value();
    target_ = b_->register_memory(in_, MemoryKind::kHost, Access::kRemoteWrite).value();
    EndpointOptions options;
    options.token = random_token();
    b_end_ = b_->accept(*b_queue_, options).value();
    a_end_ = a_->connect(*a_queue_, b_->address(), options).value();
    while (!a_end_->connected() || !b_end_->connected()) {
      b_->progress();
      (void)poll(*a_queue_, Event::kWriteDone);
      (void)poll(*b_queue_, Event::kImmediate);
    }
  }

  void send(std::size_t count) {
    std::size_t posted = 0, done = 0;
    while (done < count) {
      for (; posted < count && posted - done < kWindow; ++posted) {
        WorkRequest work;
        work.has_immediate = true;
        work.local = source_.get();
        work.local_offset = work.remote_offset = posted % kWindow * bytes_;
        work.length = bytes_;
        work.remote = &target_->describe();
        const Status status = a_end_->post(work);
        CHECK(status.ok(), "{}", status.to_string());
      }
      done += poll(*a_queue_, Event::kWriteDone);
    }
  }
  void receive(std::size_t count) {
    for (std::size_t done = 0; done < count;) done += poll(*b_queue_, Event::kImmediate);
    while (!b_queue_->arm()) (void)poll(*b_queue_, Event::kImmediate);  // the last acknowledgement
  }

 private:
  static std::size_t poll(CompletionQueue& queue, Event wanted) {
    std::array<Completion, 32> events;
    const std::size_t count = queue.poll(events);
    if (count == 0) ::sched_yield();
    return static_cast<std::size_t>(
        std::count_if(events.begin(), events.begin() + static_cast<std::ptrdiff_t>(count),
                      [wanted](const Completion& each) { return each.event == wanted; }));
  }

  std::vector<std::byte> out_, in_;
  const std::size_t bytes_;
  std::unique_ptr<Device> a_, b_;
  std::unique_ptr<CompletionQueue> a_queue_, b_queue_;
  std::unique_ptr<MemoryRegion> source_, target_;
  std::unique_ptr<Endpoint> a_end_, b_end_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void row(const nccl::NetV12& net, const std::string& transport, std::size_t bytes,
         std::size_t repeats, std::size_t mib) {
  const SystemClock clock;
  PluginPair plugin(net, bytes);
  RawPair raw(transport, clock, bytes);
  const std::size_t count = std::max<std::size_t>((mib << 20) / bytes, 2 * kWindow);
  const auto gigabytes = static_cast<double>(count * bytes) / 1e9;
  std::vector<double> ours, bare, ratios;
  for (std::size_t i = 0; i <= repeats; ++i) {
    const double with = run_both([&] { plugin.send(count); }, [&] { plugin.receive(count); });
    const double without = run_both([&] { raw.send(count); }, [&] { raw.receive(count); });
    if (i == 0) continue;  // warm-up
    ours.push_back(gigabytes / with);
    bare.push_back(gigabytes / without);
    ratios.push_back(without / with);
  }
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  fmt::print("{:>10} {:>14.2f} {:>14.2f} {:>7.2f} {:>10.2f}-{:.2f}\n", bytes, median(ours),
             median(bare), median(ratios), *low, *high);
  std::fflush(stdout);
}

int run(const std::string& transport, std::size_t repeats, std::size_t mib) {
  ::setenv("PENSTOCK_NCCL_TRANSPORT", transport.c_str(), 1);
  ::setenv("PENSTOCK_NCCL_INTERFACES", "lo", 1);
  void* library = ::dlopen(PENSTOCK_BENCH_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  CHECK(library != nullptr, "{}", ::dlerror());
  const auto* net = static_cast<nccl::NetV12*>(::dlsym(library, "ncclNetPlugin_v12"));
  CHECK(net != nullptr, "{}", ::dlerror());
  void* context = nullptr;
  nccl::CommConfig config{nccl::kUndefined};
  if (net->init(&context, 1, &config, nullptr, nullptr) != NcclResult::kSuccess) {
    fmt::print("the plugin has no {} here\n", transport);
    return 1;
  }
  fmt::print(
      "{}, one connection, {} in flight, a sending and a receiving thread, medians of {} "
      "interleaved repeats of {} MiB\n{:>10} {:>14} {:>14} {:>7} {:>15}\n",
      transport, kWindow, repeats, mib, "bytes", "plugin GB/s", "endpoint GB/s", "ratio",
      "lowest-highest");
  for (const std::size_t kib : {4, 64, 512, 4096})  // small ones: an eighth is as long a run
    row(*net, transport, kib << 10, repeats, kib < 64 ? mib / 8 + 1 : mib);
  ok(net->finalize(context));
  return 0;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  const auto number = [&](int index, std::size_t otherwise) {
    return argc > index ? std::strtoul(argv[index], nullptr, 10) : otherwise;
  };
  return penstock::bench::run(argc > 1 ? argv[1] : "tcp", std::max<std::size_t>(number(2, 7), 1),
                              std::max<std::size_t>(number(3, 256), 1));
}
