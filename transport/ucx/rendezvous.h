// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One end of a rendezvous socket: greetings out, checked greetings in. It carries the set-up of a
// connection and its last words, no data; it stays open as long as the connection, because the
// kernel tells at once when the peer's process is gone and UCX may not.
// Thread: the owner of the queue. Not on the data path: it may allocate.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "transport/base/unique_fd.h"
#include "transport/ucx/frame.h"

namespace penstock::ucx {

class Rendezvous {
 public:
  Rendezvous() = default;
  explicit Rendezvous(UniqueFd fd) : fd_(std::move(fd)) {}
  // Of an adopted connection: the head of its hello was read already.
  Rendezvous(UniqueFd fd, const Greeting& head);

  int fd() const { return fd_.get(); }
  bool open() const { return fd_.valid(); }
  void close() { fd_.reset(); }

  // Queues and sends as much as the socket takes.
  void send(const Greeting& greeting, std::span<const std::byte> address = {});
  void flush();
  bool blocked() const { return sent_ < out_.size(); }

  enum class Got : std::uint8_t { kNothing, kGreeting, kHangUp, kGarbage };
  // The next greeting; for kHello and kWelcome with the address of the peer's worker. On kHangUp
  // `error` is errno or 0; on kGarbage `what` says what was wrong.
  Got receive(Greeting& greeting, std::vector<std::byte>& address);
  int error() const { return error_; }
  const std::string& what() const { return what_; }

 private:
  bool parse(Greeting& greeting);

  UniqueFd fd_;
  std::vector<std::byte> out_;
  std::size_t sent_ = 0;
  std::vector<std::byte> in_;
  int error_ = 0;
  std::string what_;
};

}  // namespace penstock::ucx
