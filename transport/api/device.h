// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The contract every provider keeps; tests/transport/conformance.h checks it.
//
//   Device            an opened port of one provider; makes everything below; outlives it all
//   MemoryRegion      registered bytes here (a resource); describe() gives the RemoteRegion there
//   CompletionQueue   where finished posts and arrived immediates appear; one owner thread
//   Endpoint          one side of one reliable connection; posts and events on the thread of its
//   queue
//
// Promises, on every endpoint:
//   - exactly one …Done completion per accepted post, also on close and on failure;
//   - a completed write is applied at the peer;
//   - an immediate appears at the peer after all bytes of its write and of earlier writes, except
//     that an unordered write (WorkRequest::unordered) keeps no order with any other post, neither
//     its bytes nor its immediate, whichever was posted first;
//   - completions of one endpoint's posts appear in the order of the posts, unordered or not;
//   - bounds, scope, access and keys are checked before the first byte lands; a violation fails
//   that
//     endpoint (kAccess or kStale at the poster), never the process or another endpoint;
//   - kDisconnected is the last event, exactly once, after every outstanding post was completed.
// Nothing is promised between endpoints.
//
// Errors are values. A failed endpoint keeps its reason in status(); posts on it are refused.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/api/types.h"
#include "transport/base/clock.h"

namespace penstock {

// Thread: any. Owner: whoever registered; destroying it deregisters: when the destructor returns no
// peer can reach the bytes and none is landing.
class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
  // With kCuda these are addresses of the GPU: nothing on the host may touch them.
  virtual std::span<std::byte> bytes() const = 0;
  virtual MemoryKind kind() const { return MemoryKind::kHost; }
  virtual const RemoteRegion& describe() const = 0;
  // What the provider `kind` registered of it: itself, or a part when several did. nullptr if none.
  virtual const MemoryRegion* part(ProviderKind kind) const {
    return describe().reachable_by(kind) ? this : nullptr;
  }
  // Between what says that bytes arrived (an immediate, kReadDone) and the launch of a kernel that
  // reads them: a card may write past the order a GPU keeps. Once for all that arrived before; does
  // nothing where the GPU needs nothing, and for host memory. kStale when the GPU memory was freed
  // under its registration, kUnsupported when this GPU cannot be asked. Takes driver calls.
  virtual Status flush() const { return {}; }
};

// A peer's region, readable (and writable, if its access allows) in place. Host bytes stay there
// as long as this lives, even past the endpoint, the peer's region and the peer; GPU memory is gone
// when its owner frees it, which CUDA allows only after this was destroyed. Any thread.
class RemoteMapping {
 public:
  virtual ~RemoteMapping() = default;
  // With kCuda these are addresses for kernels and copies of this process's GPU, not for the host.
  virtual std::span<std::byte> bytes() const = 0;
  virtual MemoryKind kind() const { return MemoryKind::kHost; }
};

class CompletionQueue {
 public:
  virtual ~CompletionQueue() = default;

  // Makes progress on every endpoint of this queue and fills `out` from the front.
  // Returns how many were written. Never blocks. Owner thread only.
  virtual std::size_t poll(std::span<Completion> out) = 0;

  // Prepares to sleep: after true, fd() becomes readable when poll() may have something; false
  // means poll again first. Also pushes out whatever was held back for batching, which may be what
  // completes a peer's post: an owner that stops polling calls it once more. Owner thread only.
  virtual bool arm() = 0;
  virtual int fd() const = 0;
};

struct EndpointOptions {
  ProviderKind provider = ProviderKind::kAuto;  // what Device::route() chose; others ignore it
  std::uint32_t id = 0;             // comes back in every Completion; the owner's index, any value
  PeerScope scope = kAnyScope;      // the regions this peer may reach: its scope's and kAnyScope's
  Token token{};                    // both sides must name the same one
  std::uint32_t send_depth = 1024;  // posts outstanding; post() refuses more with kExhausted
  TimeNs deadline_ns = kNever;      // on the device's clock; past it, kDisconnected with kTimeout
};

// Owner thread: the one that polls its queue.
class Endpoint {
 public:
  // Destroying drops what is still outstanding without completions; close() and poll first.
  virtual ~Endpoint() = default;

  // Posts all of `work`, in order, or none. kExhausted when the send queue has no room for all of
  // them, kInvalidArgument when a request is malformed (local bytes outside their region, message
  // too long), otherwise the reason of the failure when not connected.
  virtual Status post(std::span<const WorkRequest> work) = 0;
  Status post(const WorkRequest& work) { return post({&work, 1}); }

  // Starts closing: outstanding posts complete with kCancelled, then kDisconnected. The peer sees
  // kDisconnected with kConnectionLost. Idempotent.
  virtual void close() = 0;

  virtual bool connected() const = 0;
  virtual std::uint32_t send_free() const = 0;  // posts that would be accepted now
  virtual Status status() const = 0;            // why it is not connected; OK while it is

  // The peer's region in place, where the provider can map it (Capabilities::maps_remote), the
  // peer is on this host and it allowed kMap or, for writing, kRemoteWrite. kUnsupported where it
  // cannot: use posts then. kAccess where the peer does not allow it, kStale for a region that is
  // gone. None ends the endpoint. For set-up, not for rounds: takes system calls, and may wait for
  // the peer's answer for a quarter of a second: then kTimeout, and a later call finds the answer.
  // While connected.
  virtual Result<std::shared_ptr<RemoteMapping>> map(const RemoteRegion& remote, Access access) {
    (void)remote, (void)access;
    return Status(Code::kUnsupported, "this transport maps no remote memory");
  }
};

struct Capabilities {
  bool maps_remote = false;             // Endpoint::map() may succeed
  std::uint32_t max_message_bytes = 0;  // longest kSend that every endpoint takes
  std::uint32_t max_endpoints = 0;      // of the device
};

// How a peer is reached, and in a line for people: why so, and why not by what would be faster.
struct Route {
  ProviderKind provider{};
  std::string why;
};

// A count since the device was opened; names are stable, units are in the name ("bytes_sent").
struct Counter {
  std::string name;
  std::uint64_t value = 0;
};

// What a provider answers that takes no GPU memory.
Status host_memory_only(ProviderKind provider);

class Device {
 public:
  virtual ~Device() = default;

  virtual ProviderKind kind() const = 0;
  virtual const Capabilities& capabilities() const = 0;

  // Where peers connect to, as text for the control connection ("tcp:127.0.0.1:40123").
  virtual const std::string& address() const = 0;

  // Registers caller-owned bytes, which must outlive the region. kUnsupported for GPU memory where
  // the provider or the hardware cannot reach it, saying why and the way out. Any thread.
  virtual Result<std::unique_ptr<MemoryRegion>> register_memory(std::span<std::byte> bytes,
                                                                MemoryKind kind, Access access,
                                                                PeerScope scope = kAnyScope) = 0;

  // Zeroed host memory of the provider's choice, registered: peers on this host can map it where
  // others' they cannot. The region owns the bytes. Pages are taken when first touched. Any thread.
  virtual Result<std::unique_ptr<MemoryRegion>> allocate_memory(std::size_t bytes, Access access,
                                                                PeerScope scope = kAnyScope);

  // Holds `depth` completions besides what its endpoints' send queues need. Any thread.
  virtual Result<std::unique_ptr<CompletionQueue>> create_completion_queue(std::uint32_t depth) = 0;

  // How connect() would reach the peer with this address(); the peer's accept() must be told the
  // same provider. kUnsupported naming both sides' transports when they share none. Any thread.
  virtual Result<Route> route(const std::string& address) const {
    (void)address;
    return Route{kind(), {}};
  }
  // A connection by `provider` failed before it was up: route() avoids it for this peer from now
  // on, if there is another. Any thread.
  virtual void avoid(const std::string& address, ProviderKind provider, const Status& reason) {
    (void)address, (void)provider, (void)reason;
  }

  // Both return at once; kConnected or kDisconnected follows on the queue. Called on the queue's
  // owner thread. accept() waits for the one peer that names `options.token`; a token serves once.
  virtual Result<std::unique_ptr<Endpoint>> connect(CompletionQueue& queue,
                                                    const std::string& address,
                                                    const EndpointOptions& options) = 0;
  virtual Result<std::unique_ptr<Endpoint>> accept(CompletionQueue& queue,
                                                   const EndpointOptions& options) = 0;

  // Takes in new connections up to the point where their token names an endpoint, which then goes
  // on in its own queue. One thread, any. Returns how much was done; never blocks. fd() is readable
  // when there may be work; −1 if the provider needs none.
  virtual std::size_t progress() = 0;
  virtual int fd() const = 0;

  // Per endpoint and rail summed up; read without stopping anyone. Any thread.
  virtual std::vector<Counter> counters() const { return {}; }
};

}  // namespace penstock
