// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/conformance.h"

#include <algorithm>
#include <array>

#include "tests/support/descriptors.h"

namespace penstock::test {
namespace {

// Far beyond what any test needs, also under a sanitizer on a busy machine.
constexpr TimeNs kPatienceNs = 60 * kSecond;

bool is_done(Event event) {
  return event == Event::kWriteDone || event == Event::kReadDone || event == Event::kSendDone;
}

}  // namespace

WorkRequest write_request(const Memory& from, const Memory& to, std::uint64_t tag) {
  WorkRequest request;
  request.opcode = Opcode::kWrite;
  request.tag = tag;
  request.local = from.region.get();
  request.length = from.bytes.size();
  request.remote = &to.remote;
  return request;
}

WorkRequest read_request(const Memory& into, const Memory& from, std::uint64_t tag) {
  WorkRequest request = write_request(into, from, tag);
  request.opcode = Opcode::kRead;
  return request;
}

WorkRequest send_request(const Memory& from, std::uint64_t length, std::uint64_t tag) {
  WorkRequest request;
  request.opcode = Opcode::kSend;
  request.tag = tag;
  request.local = from.region.get();
  request.length = length;
  return request;
}

WorkRequest immediate_request(std::uint32_t immediate, std::uint64_t tag) {
  WorkRequest request;
  request.has_immediate = true;
  request.immediate = immediate;
  request.tag = tag;
  return request;
}

std::size_t Lane::pump() {
  std::array<Completion, 64> taken;
  const std::size_t count = queue->poll({taken.data(), std::min(batch, taken.size())});
  for (const Completion& completion : std::span(taken.data(), count)) {
    seen.push_back(
        {completion,
         {reinterpret_cast<const char*>(completion.message.data()), completion.message.size()}});
    seen.back().completion.message = {};
    if (on_event) on_event(completion);
  }
  return count;
}

std::vector<Lane::Seen> End::events(Event event) const {
  std::vector<Lane::Seen> found;
  for (const Lane::Seen& seen : lane->seen) {
    if (seen.completion.endpoint == id && seen.completion.event == event) found.push_back(seen);
  }
  return found;
}

std::vector<Completion> End::done() const {
  std::vector<Completion> found;
  for (const Lane::Seen& seen : lane->seen) {
    if (seen.completion.endpoint == id && is_done(seen.completion.event))
      found.push_back(seen.completion);
  }
  return found;
}

void DeviceConformance::SetUp() {
  const std::string unavailable = GetParam().unavailable ? GetParam().unavailable() : "";
  if (!unavailable.empty()) GTEST_SKIP() << unavailable;
  descriptors_before_ = open_descriptors();
  harness_ = GetParam().make();
  for (int i = 0; i < 2; ++i) add_lane(add_device());
}

void DeviceConformance::TearDown() {
  if (harness_ == nullptr) return;  // skipped
  for (Lane& lane : lanes_) lane.paused = false;
  close_all();
  for (const End& end : ends_) check(end);
  ends_.clear();
  lanes_.clear();
  memories_.clear();
  devices_.clear();
  EXPECT_EQ(harness_->leaks(), "");
  harness_.reset();
  EXPECT_EQ(open_descriptors(), descriptors_before_) << "descriptors leaked";
}

Device& DeviceConformance::add_device() {
  const auto incarnation = static_cast<Incarnation>(devices_.size() + 0x1001);
  devices_.push_back(harness_->create_device(incarnation).value());
  return *devices_.back();
}

Lane& DeviceConformance::add_lane(Device& device, std::uint32_t depth) {
  Lane& lane = lanes_.emplace_back();
  lane.device = &device;
  lane.queue = device.create_completion_queue(depth).value();
  return lane;
}

void DeviceConformance::remove_device(Device& device) {
  for (End& end : ends_) {
    if (end.lane->device == &device && end.endpoint) drop(end);
  }
  for (Lane& lane : lanes_) {
    if (lane.device == &device) lane.queue.reset();
  }
  for (std::size_t i = 0; i < memories_.size(); ++i) {
    if (memory_owners_[i] != &device) continue;
    memories_[i].region.reset();
    if (memories_[i].allocated) memories_[i].bytes = {};
    memories_[i].allocated.reset();
  }
  for (std::unique_ptr<Device>& each : devices_) {
    if (each.get() == &device) each.reset();
  }
}

Memory& DeviceConformance::memory(Device& device, std::size_t bytes, Access access,
                                  PeerScope scope) {
  Memory& made = memories_.emplace_back();
  memory_owners_.push_back(&device);
  if (harness_->allocates()) {
    made.allocated = device.allocate_memory(bytes, Access::kLocal).value();
    made.bytes = made.allocated->bytes();
  } else {
    made.heap.resize(bytes);
    made.bytes = made.heap;
  }
  made.region = device.register_memory(made.bytes, MemoryKind::kHost, access, scope).value();
  made.remote = made.region->describe();
  return made;
}

End& DeviceConformance::add_end(Lane& lane) {
  End& end = ends_.emplace_back();
  end.lane = &lane;
  end.id = ++ids_given_;
  return end;
}

End& DeviceConformance::accept(Lane& lane, EndpointOptions options) {
  End& end = add_end(lane);
  options.id = end.id;
  end.endpoint = lane.device->accept(*lane.queue, options).value();
  return end;
}

End& DeviceConformance::connect(Lane& lane, const std::string& address, EndpointOptions options) {
  End& end = add_end(lane);
  options.id = end.id;
  end.endpoint = lane.device->connect(*lane.queue, address, options).value();
  return end;
}

Link DeviceConformance::link(Lane& from, Lane& to, EndpointOptions from_options,
                             EndpointOptions to_options) {
  from_options.token = to_options.token = random_token();
  End& accepted = accept(to, to_options);
  End& connected = connect(from, to.device->address(), from_options);
  EXPECT_TRUE(until([&] {
    return accepted.endpoint->connected() && connected.endpoint->connected() &&
           accepted.count(Event::kConnected) == 1 && connected.count(Event::kConnected) == 1;
  })) << "connecting: "
      << connected.endpoint->status().to_string()
      << "; accepting: " << accepted.endpoint->status().to_string();
  return {connected, accepted};
}

void DeviceConformance::drop(End& end) {
  end.endpoint.reset();
  end.dropped_at = end.lane->seen.size();
}

Result<std::shared_ptr<RemoteMapping>> DeviceConformance::map(End& end, const RemoteRegion& remote,
                                                              Access access) {
  Result<std::shared_ptr<RemoteMapping>> mapped = end.endpoint->map(remote, access);
  EXPECT_TRUE(until([&] {
    if (mapped.status().code() != Code::kTimeout) return true;
    turn();
    mapped = end.endpoint->map(remote, access);
    return false;
  }));
  return mapped;
}

Status DeviceConformance::post(End& end, std::span<const WorkRequest> work) {
  Status status = end.endpoint->post(work);
  if (status.ok()) {
    for (const WorkRequest& request : work) end.posted.push_back(request.tag);
  }
  return status;
}

bool DeviceConformance::until(const std::function<bool()>& condition) {
  const SystemClock wall;
  const TimeNs deadline_ns = wall.now_ns() + kPatienceNs;
  while (!condition()) {
    if (wall.now_ns() > deadline_ns) return false;
    turn();
  }
  return true;
}

void DeviceConformance::turn() {
  for (Lane& lane : lanes_) {
    if (lane.queue && !lane.paused) lane.pump();
  }
  for (const std::unique_ptr<Device>& device : devices_) {
    if (device) device->progress();
  }
  harness_->step();
}

void DeviceConformance::expect_alive(Link link) {
  for (End* end : {&link.a, &link.b}) {
    End& other = end == &link.a ? link.b : link.a;
    Memory& from = memory(*end->lane->device, 1000, Access::kLocal);
    Memory& to = memory(*other.lane->device, 1000, Access::kRemoteWrite);
    const std::uint64_t seed = end->id * 1000 + end->posted.size();
    const std::size_t immediates = other.count(Event::kImmediate);
    fill_pattern(from.bytes, seed);
    WorkRequest request = write_request(from, to, 999);
    request.has_immediate = true;
    request.immediate = static_cast<std::uint32_t>(seed);
    ASSERT_EQ(post(*end, request).to_string(), "ok");
    ASSERT_TRUE(until_done(*end));
    EXPECT_EQ(end->done().back().code, Code::kOk);
    ASSERT_TRUE(until([&] { return other.count(Event::kImmediate) == immediates + 1; }));
    EXPECT_EQ(other.events(Event::kImmediate).back().completion.immediate, request.immediate);
    EXPECT_TRUE(has_pattern(to.bytes, seed));
  }
}

void DeviceConformance::expect_violation(Link ends, const WorkRequest& bad, Code code) {
  const Link bystander = link();
  ASSERT_EQ(post(ends.a, bad).to_string(), "ok");
  ASSERT_TRUE(until_disconnected(ends.a));
  ASSERT_TRUE(until_disconnected(ends.b));
  ASSERT_EQ(ends.a.done().size(), ends.a.posted.size());
  expect_refusal(ends.a.done().back().code, code);
  expect_refusal(ends.a.endpoint->status().code(), code);
  expect_refusal(ends.a.events(Event::kDisconnected)[0].completion.code, code);
  EXPECT_NE(ends.b.events(Event::kDisconnected)[0].completion.code, Code::kOk);
  EXPECT_EQ(ends.b.count(Event::kImmediate), 0U);
  EXPECT_FALSE(ends.a.endpoint->connected());
  expect_refusal(ends.a.endpoint->post(bad).code(), code);
  expect_alive(bystander);
}

void DeviceConformance::expect_refusal(Code code, Code expected) {
  const bool either = !harness_->tells_stale_from_access() &&
                      (code == Code::kStale || code == Code::kAccess) &&
                      (expected == Code::kStale || expected == Code::kAccess);
  EXPECT_EQ(code_name(either ? expected : code), code_name(expected));
}

void DeviceConformance::expect_malformed(const WorkRequest& bad) {
  const Link ends = link();
  const std::uint32_t free = ends.a.endpoint->send_free();
  const std::array work{immediate_request(1, 1), bad, immediate_request(2, 2)};
  EXPECT_EQ(code_name(post(ends.a, work).code()), code_name(Code::kInvalidArgument));
  EXPECT_EQ(ends.a.endpoint->send_free(), free);
  expect_alive(ends);
  EXPECT_EQ(ends.b.count(Event::kImmediate), 1U) << "part of a refused batch was posted";
}

void DeviceConformance::close_all() {
  for (const End& end : ends_) {
    if (end.endpoint) end.endpoint->close();
  }
  EXPECT_TRUE(until([&] {
    return std::all_of(ends_.begin(), ends_.end(), [](const End& end) {
      return !end.endpoint || end.count(Event::kDisconnected) > 0;
    });
  })) << "an endpoint was closed and never said kDisconnected";
  for (int i = 0; i < 100; ++i) turn();  // time for events that must not come
}

// What must hold for every endpoint in every test.
void DeviceConformance::check(const End& end) {
  SCOPED_TRACE(testing::Message() << "endpoint " << end.id);
  const bool dropped = end.dropped_at != SIZE_MAX;
  std::vector<std::uint64_t> completed;
  bool failed = false;
  std::size_t connected = 0;
  std::size_t disconnected = 0;
  for (std::size_t i = 0; i < end.lane->seen.size(); ++i) {
    const Completion& event = end.lane->seen[i].completion;
    if (event.endpoint != end.id) continue;
    EXPECT_EQ(disconnected, 0U) << "an event after kDisconnected";
    EXPECT_TRUE(i < end.dropped_at) << "an event of a destroyed endpoint";
    EXPECT_TRUE(connected == 1 || event.event == Event::kConnected ||
                event.event == Event::kDisconnected)
        << "an event before kConnected";
    connected += event.event == Event::kConnected ? 1 : 0;
    disconnected += event.event == Event::kDisconnected ? 1 : 0;
    if (!is_done(event.event)) continue;
    completed.push_back(event.tag);
    EXPECT_FALSE(failed && event.code == Code::kOk) << "a success after a failure";
    failed = failed || event.code != Code::kOk;
  }
  EXPECT_LE(connected, 1U);
  EXPECT_EQ(disconnected, dropped ? std::min<std::size_t>(disconnected, 1) : 1);
  std::vector<std::uint64_t> expected = end.posted;
  if (dropped) expected.resize(std::min(expected.size(), completed.size()));
  EXPECT_EQ(completed, expected) << "one completion per post, in order";
}

}  // namespace penstock::test
