// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A UCP worker: what drives UCX for one queue, and its lines, one UCP endpoint each, to the workers
// of peers.
//
// UCX joins the endpoints that two workers make towards each other by counting them on both sides:
// the n-th here with the n-th there. A queue therefore has one worker for the connections it makes
// and another for those it accepts, the connector tells the acceptor its count, and the acceptor
// makes up what it has missed. Otherwise the failure of one line would be seen on another.
// Thread: whoever holds the queue's gate.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "transport/ucx/context.h"
#include "transport/ucx/frame.h"

namespace penstock::ucx {

// Told of a line's failure, inside progress().
class LineOwner {
 public:
  virtual ~LineOwner() = default;
  virtual void on_line_failed(ucs_status_t status) = 0;
};

// Takes the frames that arrive, inside progress(). Returns UCS_INPROGRESS when it keeps `data`.
class FrameSink {
 public:
  virtual ~FrameSink() = default;
  virtual ucs_status_t on_frame(const FrameHeader& header, void* data, std::size_t length,
                                std::uint64_t receive_attributes) = 0;
};

struct Line {
  ucp_ep_h endpoint = nullptr;
  LineOwner* owner = nullptr;  // null while nobody has claimed it
  bool failed = false;
};

class Worker {
 public:
  static Result<std::unique_ptr<Worker>> create(const Context& context, FrameSink& sink);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  std::uint64_t id() const { return id_; }  // random, never 0; names it to peers
  const std::vector<std::byte>& address() const { return address_; }
  const UcpApi& api() const { return api_; }
  ucp_worker_h handle() const { return handle_; }
  int fd() const { return fd_; }

  bool progress() { return api_.ucp_worker_progress(handle_) != 0; }
  bool arm() { return api_.ucp_worker_arm(handle_) == UCS_OK; }

  // The connector's half: a line to the peer's worker `id` and its number among those.
  struct Numbered {
    std::unique_ptr<Line> line;
    std::uint32_t index = 0;
  };
  Result<Numbered> connect(std::uint64_t id, std::span<const std::byte> address, LineOwner& owner);
  // The acceptor's half: the line that meets the peer's number `index`.
  Result<std::unique_ptr<Line>> meet(std::uint64_t id, std::span<const std::byte> address,
                                     std::uint32_t index, LineOwner& owner);
  // Cancels everything on the line; what was under way still reports its end through progress().
  void close(std::unique_ptr<Line> line);
  // Lets go of a line that never carried anything. UCX 1.13 aborts the process when a line is
  // closed whose set-up over a slow network is still waiting to be sent, so it is closed much
  // later.
  void leave(std::unique_ptr<Line> line);

 private:
  struct Spare {  // made up for a connection whose number came later or never, or left
    std::uint64_t id = 0;
    std::uint32_t index = 0;
    std::unique_ptr<Line> line;
  };

  Worker(const Context& context, ucp_worker_h handle);
  Status set_up(FrameSink& sink);
  Result<std::unique_ptr<Line>> make(std::span<const std::byte> address, LineOwner* owner);
  void keep_spare(Spare spare);

  const UcpApi& api_;
  const ucp_worker_h handle_;
  const std::uint64_t id_;
  int fd_ = -1;  // UCX's
  std::vector<std::byte> address_;
  std::unordered_map<std::uint64_t, std::uint32_t> made_;  // lines ever, by peer's worker
  std::vector<Spare> spares_;
};

}  // namespace penstock::ucx
