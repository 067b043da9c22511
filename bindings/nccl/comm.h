// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One end of one NCCL connection: an endpoint with a completion queue of its own, so that
// connections share nothing and need no lock. Nothing runs in the background: isend, irecv and test
// poll the queue of the connection they are called on, once each.
// Thread: one at a time, as NCCL promises; different connections at the same time.

#include <cstdint>
#include <memory>

#include "bindings/nccl/net_device.h"

namespace penstock::nccl {

class Comm;

// What NCCL holds as a request. Belongs to the connection and is used again once test() said that
// it is done.
struct Request {
  Comm* comm = nullptr;
};

class Comm {
 public:
  virtual ~Comm() = default;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  NetDevice& device() const { return device_; }
  bool connected() const { return connected_; }
  // What the peer may do with memory that is registered for this connection.
  virtual Access access() const = 0;

  // True when it is over; then `sizes`, unless null, holds the bytes of each of its buffers.
  virtual Result<bool> test(Request& request, int* sizes) = 0;

  // Takes in what happened. The reason once the connection has failed, for ever.
  Status poll();
  // Closes, waits until the lent memory is given back, a second at most, and lets go of the
  // requests. Idempotent; every derived destructor begins with it.
  void shut();
  void fail(Status reason);

 protected:
  Comm(NetDevice& device, std::unique_ptr<CompletionQueue> queue)
      : device_(device), queue_(std::move(queue)) {}
  static Result<std::unique_ptr<CompletionQueue>> make_queue(NetDevice& device);

  virtual void on_event(const Completion& event) = 0;
  virtual void drop_requests() = 0;

  // A request begins, or test() said that it is done.
  void begin() { ++outstanding_; }
  void done();

  NetDevice& device_;
  std::unique_ptr<CompletionQueue> queue_;
  std::unique_ptr<Endpoint> endpoint_;
  bool connected_ = false, ended_ = false;
  Status failure_;

 private:
  void handle(const Completion& event);

  std::uint32_t outstanding_ = 0;
  std::uint32_t idle_polls_ = 0;
  bool owes_ = false;  // something arrived since the queue was armed
};

}  // namespace penstock::nccl
