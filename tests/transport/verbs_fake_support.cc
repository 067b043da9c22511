// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/verbs_fake_support.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace penstock::test {

std::vector<Code> FakeEnd::codes() const {
  std::vector<Code> all;
  for (const Completion& completion : done) all.push_back(completion.code);
  return all;
}

FabricOptions FakeDevices::two_nics() {
  FabricOptions options;
  options.nics = {{"fake0", {{"10.77.0.1"}}}, {"fake1", {{"10.77.0.2"}}}};
  return options;
}

FabricOptions FakeDevices::four_nics() {
  FabricOptions options;
  options.nics = {{"a0", {{"10.77.0.1"}}},
                  {"a1", {{"10.78.0.1"}}},
                  {"b0", {{"10.77.0.2"}}},
                  {"b1", {{"10.78.0.2"}}}};
  return options;
}

FakeDevices::FakeDevices(FabricOptions options, std::optional<GpuHost> gpus)
    : fabric(clock, options), fabric_rails_(std::max<std::size_t>(options.nics.size() / 2, 1)) {
  for (const int side : {0, 1}) {
    VerbsOptions wanted;
    const std::size_t half = options.nics.size() / 2;
    for (std::size_t i = 0; i < half; ++i)
      wanted.rails.push_back(options.nics[static_cast<std::size_t>(side) * half + i].name);
    wanted.incarnation = static_cast<Incarnation>(side) + 1;
    device[side] = open_verbs_device(fabric.api(), wanted, clock, gpus).value();
    queue[side] = device[side]->create_completion_queue(16).value();
    region[side] = device[side]
                       ->register_memory(bytes[side], MemoryKind::kHost, Access::kRemoteReadWrite)
                       .value();
  }
}

FakeDevices::~FakeDevices() {
  polls[0] = polls[1] = true;
  for (FakeEnd& end : ends) end.endpoint->close();
  for (FakeEnd& end : ends) {
    EXPECT_TRUE(until([&] { return end.disconnected; })) << "endpoint " << end.id;
    std::vector<std::uint64_t> tags;
    for (const Completion& completion : end.done) tags.push_back(completion.tag);
    EXPECT_EQ(tags, end.posted) << "endpoint " << end.id;
  }
  ends.clear();
  for (const int side : {0, 1}) {
    queue[side].reset();
    region[side].reset();
    device[side].reset();
  }
  EXPECT_EQ(fabric.violations(), "");
  EXPECT_EQ(fabric.leaks(), "");
}

FakeDevices::Link FakeDevices::link(EndpointOptions options) {
  options.token = random_token();
  const std::vector<std::uint32_t> before = fabric.live_queue_pairs();
  FakeEnd& b = ends.emplace_back();
  FakeEnd& a = ends.emplace_back();
  b.side = 1;
  b.id = options.id = static_cast<std::uint32_t>(ends.size() - 2);
  b.endpoint = device[1]->accept(*queue[1], options).value();
  a.id = options.id = static_cast<std::uint32_t>(ends.size() - 1);
  a.endpoint = device[0]->connect(*queue[0], device[1]->address(), options).value();
  EXPECT_TRUE(until([&] { return a.connected && b.connected; }));
  // Its paths on other rails, as far as they can be had, come up while it is open.
  const std::size_t all = before.size() + 2 * fabric_rails_;
  for (int i = 0; i < 500 && fabric.live_queue_pairs().size() < all; ++i) turn();
  for (int i = 0; i < 100 && fabric_rails_ > 1; ++i) turn();
  a.qp = fabric.live_queue_pairs().at(before.size());
  b.qp = fabric.peer_of(a.qp);
  return {a, b};
}

Status FakeDevices::write(FakeEnd& from, std::initializer_list<std::uint64_t> tags,
                          bool immediate) {
  std::vector<WorkRequest> work;
  for (const std::uint64_t tag : tags) {
    WorkRequest& request = work.emplace_back();
    request.tag = tag;
    request.local = region[from.side].get();
    request.length = bytes[from.side].size();
    request.remote = &region[1 - from.side]->describe();
    request.has_immediate = immediate;
    request.immediate = static_cast<std::uint32_t>(tag);
  }
  Status status = from.endpoint->post(work);
  if (status.ok()) from.posted.insert(from.posted.end(), tags.begin(), tags.end());
  return status;
}

void FakeDevices::turn() {
  for (const int side : {0, 1}) {
    std::array<Completion, 16> taken;
    const std::size_t count = polls[side] ? queue[side]->poll(taken) : 0;
    for (const Completion& completion : std::span(taken.data(), count)) {
      FakeEnd& end = ends.at(completion.endpoint);
      EXPECT_FALSE(end.disconnected) << "an event after the last of endpoint " << end.id;
      if (completion.event == Event::kConnected)
        end.connected = true;
      else if (completion.event == Event::kDisconnected)
        end.disconnected = true;
      else if (completion.event == Event::kImmediate)
        end.immediates.push_back(completion);
      else if (completion.event == Event::kMessage)
        ++end.messages;
      else
        end.done.push_back(completion);
    }
    device[side]->progress();
  }
}

bool FakeDevices::until(const std::function<bool()>& condition) {
  const TimeNs deadline_ns = clock.now_ns() + 20 * kSecond;
  while (!condition()) {
    if (clock.now_ns() > deadline_ns) return false;
    turn();
  }
  return true;
}

void FakeDevices::expect_alive(Link ends_of) {
  for (FakeEnd* end : {&ends_of.a, &ends_of.b}) {
    FakeEnd& other = end == &ends_of.a ? ends_of.b : ends_of.a;
    const std::size_t before = other.immediates.size();
    EXPECT_EQ(write(*end, {next_tag_++}, true).to_string(), "ok");
    EXPECT_TRUE(until([&] {
      return other.immediates.size() > before && end->done.size() == end->posted.size();
    }));
    EXPECT_EQ(end->done.back().code, Code::kOk);
  }
}

std::uint64_t FakeDevices::counter(int side, const std::string& name) const {
  std::uint64_t sum = 0;
  for (const Counter& counter : device[side]->counters())
    if (counter.name.ends_with(name)) sum += counter.value;
  return sum;
}

}  // namespace penstock::test
