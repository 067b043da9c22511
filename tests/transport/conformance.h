// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The contract of transport/api/device.h as tests. A provider joins with a harness and one line:
//
//   class MyHarness final : public DeviceHarness { … };
//   INSTANTIATE_TEST_SUITE_P(
//       Mine, DeviceConformance,
//       testing::Values(Provider{"mine", [] { return std::make_unique<MyHarness>(); }}), name_of);
//
// The tests live in conformance_*.cc. The fixture's teardown closes every endpoint, polls until
// each has said kDisconnected, and fails unless each accepted post got exactly one completion, in
// order, and every region, endpoint and descriptor is gone.

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/pattern.h"
#include "transport/api/device.h"

namespace penstock::test {

class DeviceHarness {
 public:
  virtual ~DeviceHarness() = default;
  virtual const Clock& clock() const = 0;  // the devices'
  virtual Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) = 0;
  // Lets time pass and the network move; called after everything was polled once.
  virtual void step() = 0;
  // Does memory() take its bytes from Device::allocate_memory(), instead of this process's heap?
  virtual bool allocates() const { return false; }
  // Can map() succeed between two of its devices?
  virtual bool maps(const Device& device) const { return device.capabilities().maps_remote; }
  // Longest kSend that an endpoint takes: may be more than a device of several providers promises.
  virtual std::uint32_t longest_message(const Device& device) const {
    return device.capabilities().max_message_bytes;
  }
  // May owner threads run at the same time, and sleep on descriptors?
  virtual bool threads() const { return true; }
  // Does the poster learn whether a refused region is gone (kStale) or was never within its reach
  // (kAccess)? If not, either code will do for both.
  virtual bool tells_stale_from_access() const { return true; }
  // How long making a connection takes at most.
  virtual TimeNs connects_within_ns() const { return 200 * kMillisecond; }
  // What the provider still holds once all devices are gone; empty if nothing.
  virtual std::string leaks() const { return {}; }
};

struct Provider {
  const char* name;
  std::function<std::unique_ptr<DeviceHarness>()> make;
  std::function<std::string()> unavailable = {};  // why every test is to be skipped here, if it is
};
inline std::string name_of(const testing::TestParamInfo<Provider>& info) { return info.param.name; }
inline void PrintTo(const Provider& provider, std::ostream* out) { *out << provider.name; }

// A completion queue and everything that came out of it.
struct Lane {
  struct Seen {
    Completion completion;
    std::string message;  // a copy of kMessage's bytes
  };

  Device* device = nullptr;
  std::unique_ptr<CompletionQueue> queue;
  bool paused = false;     // until() leaves it alone
  std::size_t batch = 16;  // completions asked for at once, at most 64
  std::vector<Seen> seen;
  std::function<void(const Completion&)> on_event;  // called as each is taken

  std::size_t pump();
};

// An endpoint and what was posted on it. `id` is unique in the fixture.
struct End {
  Lane* lane = nullptr;
  std::uint32_t id = 0;
  std::unique_ptr<Endpoint> endpoint;
  std::vector<std::uint64_t> posted;  // tags, in order
  std::size_t dropped_at = SIZE_MAX;  // events seen on the lane when the test destroyed it

  std::vector<Lane::Seen> events(Event event) const;
  std::size_t count(Event event) const { return events(event).size(); }
  // Completed posts, whatever the opcode, in order.
  std::vector<Completion> done() const;
};

struct Link {
  End& a;
  End& b;
};

struct Memory {
  std::vector<std::byte> heap;              // where the bytes live, or
  std::unique_ptr<MemoryRegion> allocated;  // the device's; they go with the device
  std::span<std::byte> bytes;
  std::unique_ptr<MemoryRegion> region;
  RemoteRegion remote;
};

// Requests between whole memories; tests change the fields they are about.
WorkRequest write_request(const Memory& from, const Memory& to, std::uint64_t tag);
WorkRequest read_request(const Memory& into, const Memory& from, std::uint64_t tag);
WorkRequest send_request(const Memory& from, std::uint64_t length, std::uint64_t tag);
WorkRequest immediate_request(std::uint32_t immediate, std::uint64_t tag);  // zero bytes

class DeviceConformance : public testing::TestWithParam<Provider> {
 protected:
  static constexpr std::uint32_t kQueueDepth = 256;

  void SetUp() override;
  void TearDown() override;

  DeviceHarness& harness() { return *harness_; }
  // Devices a and b with a lane each.
  Device& a() { return *devices_[0]; }
  Device& b() { return *devices_[1]; }
  Lane& lane_a() { return lanes_[0]; }
  Lane& lane_b() { return lanes_[1]; }
  Device& add_device();
  void remove_device(Device& device);  // its ends, lanes and memories too, without a word
  Lane& add_lane(Device& device, std::uint32_t depth = kQueueDepth);

  // Registered, zeroed.
  Memory& memory(Device& device, std::size_t bytes, Access access, PeerScope scope = kAnyScope);

  // Not yet connected; the id in `options` is replaced.
  End& accept(Lane& lane, EndpointOptions options);
  End& connect(Lane& lane, const std::string& address, EndpointOptions options);
  // Connected. The end at `to` accepts.
  Link link(Lane& from, Lane& to, EndpointOptions from_options = {},
            EndpointOptions to_options = {});
  Link link(EndpointOptions options = {}) { return link(lane_a(), lane_b(), options, options); }
  void drop(End& end);  // destroys the endpoint at once

  // Endpoint::map(), asked until the peer has answered.
  Result<std::shared_ptr<RemoteMapping>> map(End& end, const RemoteRegion& remote, Access access);

  Status post(End& end, std::span<const WorkRequest> work);
  Status post(End& end, const WorkRequest& work) { return post(end, {&work, 1}); }

  // Polls every lane that is not paused, progresses every device, lets time pass, until
  // `condition` holds; false when a generous deadline on the system's clock has passed.
  bool until(const std::function<bool()>& condition);
  bool until_done(const End& end) {  // every post has completed
    return until([&] { return end.done().size() == end.posted.size(); });
  }
  bool until_disconnected(const End& end) {
    return until([&] { return end.count(Event::kDisconnected) == 1; });
  }
  // The link moves bytes and an immediate, both ways.
  void expect_alive(Link link);
  // Receive a request the peer must refuse. Expect the named error at the poster, an end of that
  // connection at both, and every other endpoint alive. Nothing may be outstanding on `ends.a`.
  void expect_violation(Link ends, const WorkRequest& bad, Code code);
  // `code` is what the contract asks for, or what it cannot be told from.
  void expect_refusal(Code code, Code expected);
  // Receive a request in a batch that post() must refuse. Expect nothing posted.
  void expect_malformed(const WorkRequest& bad);

 private:
  End& add_end(Lane& lane);
  void turn();
  void close_all();
  void check(const End& end);

  std::unique_ptr<DeviceHarness> harness_;
  std::deque<std::unique_ptr<Device>> devices_;
  std::deque<Lane> lanes_;
  std::deque<Memory> memories_;
  std::deque<Device*> memory_owners_;
  std::deque<End> ends_;
  std::uint32_t ids_given_ = 0;
  std::size_t descriptors_before_ = 0;
};

}  // namespace penstock::test
