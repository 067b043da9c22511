// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The sending end of a connection, which is the one that connects. See announcement.h for what
// travels. A send begins when the first receive that is not used up has a buffer with its tag.

#include <array>
#include <string>

#include "bindings/nccl/announcement.h"
#include "bindings/nccl/comm.h"

namespace penstock::nccl {

class SendComm final : public Comm {
 public:
  static Result<std::unique_ptr<SendComm>> create(NetDevice& device, std::string address,
                                                  const Token& token);
  ~SendComm() override { shut(); }

  Access access() const override { return Access::kLocal; }

  // Goes on connecting; true once it is. An error is final.
  Result<bool> connect();

  // nullptr: not now, and nothing happened. kInvalidArgument when the receive is shorter, naming
  // both sizes: nothing was sent and the connection goes on.
  Result<Request*> send(void* data, std::uint64_t bytes, int tag, MemoryHandle* memory);
  Result<bool> test(Request& request, int* sizes) override;

 private:
  struct Send : Request {
    bool active = false;
    MemoryHandle* memory = nullptr;
    std::uint64_t local_offset = 0;
    std::uint64_t bytes = 0;
    Announcement target;
    std::uint32_t pieces = 0, posted = 0, finished = 0;
  };
  struct Receive {  // announced by the peer
    std::uint8_t count = 0, seen = 0, used = 0;
    std::array<Announcement, kMaxReceives> buffers;
    std::array<bool, kMaxReceives> taken{};
  };
  static constexpr std::size_t kSends = kMaxRequests * kMaxReceives;

  SendComm(NetDevice& device, std::unique_ptr<CompletionQueue> queue, std::string address,
           const Token& token);
  Status dial();
  void on_event(const Completion& event) override;
  void drop_requests() override;
  void on_message(std::span<const std::byte> message);
  Announcement* match(int tag, Receive& receive, std::size_t& index);
  Send* free_send();
  void post_pieces();
  WorkRequest piece_of(const Send& send, std::uint32_t piece) const;

  const std::string address_;
  const Token token_;
  TimeNs connect_by_ns_ = 0, retry_until_ns_ = 0, next_dial_ns_ = 0, pause_ns_ = 0;

  std::array<Receive, kMaxRequests> receives_{};  // a ring: [first_, last_)
  std::uint32_t first_ = 0, last_ = 0;
  std::array<Send, kSends> sends_{};
  std::uint32_t next_send_ = 0;
  std::array<std::uint16_t, kSends> waiting_{};  // a ring of sends with pieces not yet posted
  std::uint32_t waiting_first_ = 0, waiting_last_ = 0;
};

}  // namespace penstock::nccl
