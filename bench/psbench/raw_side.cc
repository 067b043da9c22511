// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/raw_side.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <thread>
#include <type_traits>

#include "bench/psbench/tcp_streams.h"
#include "engine/runtime/spinner.h"
#include "transport/base/random.h"
#include "transport/providers.h"

namespace penstock::psbench {
namespace {

constexpr std::uint64_t kMaxWindowBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kPostBatch = 32;
// A bandwidth run is timed in this many parts at most. Up to `depth` completions may come at once
// at the end of a part although they belong to the one before: an eighth of it at most.
constexpr std::uint64_t kMostParts = 8, kDepthsInPart = 8;

// What the sides tell each other before they connect; both run the same program.
struct Introduction {
  char address[512];
  RemoteRegion region;
  Token token;
};
static_assert(std::is_trivially_copyable_v<Introduction>);

double process_cpu_s() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

class RawSide {
 public:
  RawSide(const RawTask& task, bool poster, int to_peer, TimeNs deadline_ns, RawFindings& findings)
      : task_(task),
        poster_(poster),
        to_peer_(to_peer),
        deadline_ns_(deadline_ns),
        findings_(findings) {}

  Status run() {
    PENSTOCK_RETURN_IF_ERROR(open());
    PENSTOCK_RETURN_IF_ERROR(connect());
    const std::uint64_t warm_up = std::max<std::uint64_t>(1, task_.messages / 10);
    PENSTOCK_RETURN_IF_ERROR(task_.latency ? run_latency(warm_up, false)
                                           : run_bandwidth(warm_up, false));
    PENSTOCK_RETURN_IF_ERROR(meet());
    const double cpu_before_s = process_cpu_s();
    PENSTOCK_RETURN_IF_ERROR(task_.latency ? run_latency(task_.messages, true)
                                           : run_bandwidth(task_.messages, true));
    findings_.cpu_s = process_cpu_s() - cpu_before_s;
    for (const Counter& counter : device_->counters()) {
      if (findings_.counters == RawFindings::kMaxCounters) break;
      auto& out = findings_.counter[findings_.counters++];
      counter.name.copy(out.name, sizeof out.name - 1);
      out.value = counter.value;
    }
    PENSTOCK_RETURN_IF_ERROR(meet());  // nobody leaves while the other still needs it
    return {};
  }

 private:
  Status open();
  Status connect();
  Status run_bandwidth(std::uint64_t messages, bool measured);
  Status run_latency(std::uint64_t messages, bool measured);
  Status post(std::uint64_t first, std::uint64_t count);
  Status wait_for(const std::uint64_t& counter, std::uint64_t value);
  Status turn(bool watch_peer = false);
  Status sleep(bool watch_peer);
  Status meet();
  void keep(double us) {
    if (findings_.samples < RawFindings::kMaxSamples) findings_.sample_us[findings_.samples++] = us;
  }
  bool tells_the_peer() const {
    return task_.operation == RawOperation::kWriteImm || task_.operation == RawOperation::kSend;
  }

  const RawTask& task_;
  const bool poster_;
  const int to_peer_;
  const TimeNs deadline_ns_;
  RawFindings& findings_;
  SystemClock clock_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<MemoryRegion> memory_;
  RemoteRegion remote_;
  std::unique_ptr<CompletionQueue> queue_;
  std::unique_ptr<Endpoint> endpoint_;
  std::array<WorkRequest, kPostBatch> batch_;
  std::uint64_t places_ = 1;   // messages that fit into the memory side by side
  std::uint64_t done_ = 0;     // own posts completed
  std::uint64_t arrived_ = 0;  // of the peer's
  bool connected_ = false;
  bool peer_spoke_ = false;  // its byte of the next meet() is there
  Spinner spinner_;          // as lanes do
};

Status RawSide::open() {
  DeviceOptions options;
  options.provider = task_.transport;
  options.data = task_.data;
  options.secret = task_.secret;
  options.incarnation = random_u64() | 1U;
  PENSTOCK_ASSIGN_OR_RETURN(device_, open_device(options, clock_));
  const std::uint32_t longest = device_->capabilities().max_message_bytes;
  if (task_.operation == RawOperation::kSend && task_.bytes > longest)
    return Status(Code::kInvalidArgument,
                  fmt::format("{} sends messages of {} bytes at most, not {}", task_.transport,
                              longest, task_.bytes))
        .with_hint("choose smaller --sizes for send");
  places_ = std::clamp<std::uint64_t>(kMaxWindowBytes / std::max<std::uint64_t>(1, task_.bytes), 1,
                                      task_.latency ? 1 : task_.depth);
  const std::uint64_t bytes = std::max<std::uint64_t>(4096, places_ * task_.bytes);
  PENSTOCK_ASSIGN_OR_RETURN(memory_, device_->allocate_memory(bytes, Access::kRemoteReadWrite));
  std::memset(memory_->bytes().data(), poster_ ? 1 : 2, memory_->bytes().size());
  PENSTOCK_ASSIGN_OR_RETURN(queue_, device_->create_completion_queue(4096));
  return {};
}

// The poster connects, the other accepts; the token is the acceptor's.
Status RawSide::connect() {
  Introduction mine{}, theirs{};
  device_->address().copy(mine.address, sizeof mine.address - 1);
  mine.region = memory_->describe();
  mine.token = random_token();
  const auto introduce = [&] {
    return exchange_bytes(to_peer_, std::as_bytes(std::span(&mine, 1)),
                          std::as_writable_bytes(std::span(&theirs, 1)), deadline_ns_);
  };
  EndpointOptions options;
  options.send_depth = std::max(task_.depth, 16U);
  options.deadline_ns = deadline_ns_;
  if (poster_) {
    PENSTOCK_RETURN_IF_ERROR(introduce());
    PENSTOCK_ASSIGN_OR_RETURN(const Route route, device_->route(theirs.address));
    std::byte provider{static_cast<std::uint8_t>(route.provider)}, ready{};
    PENSTOCK_RETURN_IF_ERROR(exchange_bytes(to_peer_, {&provider, 1}, {&ready, 1}, deadline_ns_));
    PENSTOCK_RETURN_IF_ERROR(meet());
    options.token = theirs.token;
    options.provider = route.provider;
    PENSTOCK_ASSIGN_OR_RETURN(endpoint_, device_->connect(*queue_, theirs.address, options));
  } else {
    PENSTOCK_RETURN_IF_ERROR(introduce());
    std::byte nothing{}, provider{};
    PENSTOCK_RETURN_IF_ERROR(exchange_bytes(to_peer_, {&nothing, 1}, {&provider, 1}, deadline_ns_));
    options.token = mine.token;
    options.provider = static_cast<ProviderKind>(provider);
    PENSTOCK_ASSIGN_OR_RETURN(endpoint_, device_->accept(*queue_, options));
    PENSTOCK_RETURN_IF_ERROR(meet());
  }
  remote_ = theirs.region;
  while (!connected_) PENSTOCK_RETURN_IF_ERROR(turn());
  return meet();
}

// Both sides have come this far. Until the peer has, its posts are served.
Status RawSide::meet() {
  std::byte mine{1}, theirs{};
  PENSTOCK_RETURN_IF_ERROR(exchange_bytes(to_peer_, {&mine, 1}, {}, deadline_ns_));
  peer_spoke_ = endpoint_ == nullptr;  // nothing to serve yet
  while (!peer_spoke_) PENSTOCK_RETURN_IF_ERROR(turn(true));
  return exchange_bytes(to_peer_, {}, {&theirs, 1}, deadline_ns_);
}

Status RawSide::turn(bool watch_peer) {
  std::array<Completion, 64> completions;
  if (!connected_) device_->progress();
  const std::size_t polled = queue_->poll(completions);
  for (std::size_t i = 0; i < polled; ++i) {
    const Completion& completion = completions[i];
    switch (completion.event) {
      case Event::kConnected:
        connected_ = true;
        break;
      case Event::kDisconnected:
        if (watch_peer) {  // it may have met us and gone; if it only went, its byte is missing
          peer_spoke_ = true;
          break;
        }
        return endpoint_->status().ok() ? Status(Code::kConnectionLost, "the peer closed")
                                        : endpoint_->status();
      case Event::kImmediate:
      case Event::kMessage:
        ++arrived_;
        break;
      default:
        if (completion.code != Code::kOk)
          return Status(completion.code, "a post failed: " + endpoint_->status().to_string());
        ++done_;
    }
  }
  if (polled > 0) {
    spinner_.found();
    return {};
  }
  return sleep(watch_peer);
}

Status RawSide::sleep(bool watch_peer) {
  const TimeNs now_ns = clock_.now_ns();
  if (now_ns > deadline_ns_)
    return Status(Code::kTimeout, "the measurement did not end by its deadline");
  if (!watch_peer && spinner_.again(clock_)) return {};
  if (!queue_->arm()) return {};
  pollfd fds[3] = {{queue_->fd(), POLLIN, 0},
                   {connected_ ? -1 : device_->fd(), POLLIN, 0},
                   {watch_peer ? to_peer_ : -1, POLLIN, 0}};
  ::poll(fds, 3, 100);
  peer_spoke_ = fds[2].revents != 0;
  return {};
}

Status RawSide::wait_for(const std::uint64_t& counter, std::uint64_t value) {
  while (counter < value) PENSTOCK_RETURN_IF_ERROR(turn());
  return {};
}

// The messages from number `first` on, at most kPostBatch.
Status RawSide::post(std::uint64_t first, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t number = first + i;
    WorkRequest& work = batch_[i];
    work.opcode = task_.operation == RawOperation::kRead   ? Opcode::kRead
                  : task_.operation == RawOperation::kSend ? Opcode::kSend
                                                           : Opcode::kWrite;
    work.has_immediate = task_.operation == RawOperation::kWriteImm;
    work.immediate = static_cast<std::uint32_t>(number);
    work.unordered = work.opcode == Opcode::kWrite;  // as slices are; arrivals are only counted
    work.tag = number;
    work.local = memory_.get();
    work.local_offset = work.remote_offset = number % places_ * task_.bytes;
    work.length = task_.bytes;
    work.remote = &remote_;
  }
  return endpoint_->post(std::span<const WorkRequest>(batch_.data(), count));
}

Status RawSide::run_bandwidth(std::uint64_t messages, bool measured) {
  done_ = arrived_ = 0;
  PENSTOCK_RETURN_IF_ERROR(meet());
  const bool posts = poster_ || task_.two_way;
  const bool hears = tells_the_peer() && (!poster_ || task_.two_way);
  const std::uint64_t sample = std::max(messages / kMostParts, kDepthsInPart * task_.depth);
  const TimeNs start_ns = clock_.now_ns();
  TimeNs begin_ns = start_ns;
  std::uint64_t posted = 0, counted = 0;
  while (posts && done_ < messages) {
    for (std::uint64_t count = 1; count > 0; posted += count) {
      count = std::min({messages - posted, task_.depth - (posted - done_), kPostBatch,
                        std::uint64_t{endpoint_->send_free()}});
      if (count > 0) PENSTOCK_RETURN_IF_ERROR(post(posted, count));
    }
    PENSTOCK_RETURN_IF_ERROR(turn());
    if (!measured || done_ - counted < sample) continue;
    const TimeNs end_ns = clock_.now_ns();
    keep(static_cast<double>(end_ns - begin_ns) / 1e3 / static_cast<double>(done_ - counted));
    begin_ns = end_ns;
    counted = done_;
  }
  findings_.elapsed_s = static_cast<double>(clock_.now_ns() - start_ns) / 1e9;
  return wait_for(arrived_, hears ? messages : 0);
}

// A ping and a pong each time where the peer is told of the message, else a post at a time.
Status RawSide::run_latency(std::uint64_t messages, bool measured) {
  done_ = arrived_ = 0;
  PENSTOCK_RETURN_IF_ERROR(meet());
  const bool told = tells_the_peer();
  if (!poster_ && !told) return {};
  for (std::uint64_t i = 0; i < messages; ++i) {
    if (!poster_) PENSTOCK_RETURN_IF_ERROR(wait_for(arrived_, i + 1));
    const TimeNs begin_ns = clock_.now_ns();
    PENSTOCK_RETURN_IF_ERROR(post(i, 1));
    if (poster_) PENSTOCK_RETURN_IF_ERROR(wait_for(told ? arrived_ : done_, i + 1));
    const double taken_us = static_cast<double>(clock_.now_ns() - begin_ns) / 1e3;
    if (measured && poster_) keep(told ? taken_us / 2 : taken_us);
  }
  return wait_for(done_, messages);
}

}  // namespace

Status run_raw_side(const RawTask& task, bool poster, int to_peer, TimeNs deadline_ns,
                    RawFindings& findings) {
  return RawSide(task, poster, to_peer, deadline_ns, findings).run();
}

}  // namespace penstock::psbench
