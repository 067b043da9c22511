// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The receiving end of a connection, which is the one that accepts. See announcement.h for what
// travels.

#include <array>
#include <memory>

#include "bindings/nccl/announcement.h"
#include "bindings/nccl/comm.h"

namespace penstock::nccl {

class ReceiveComm final : public Comm {
 public:
  // Waits for whoever names the token.
  static Result<std::unique_ptr<ReceiveComm>> create(NetDevice& device, const Token& token);
  ~ReceiveComm() override { shut(); }

  Access access() const override { return Access::kRemoteWrite; }

  struct Buffer {
    void* data = nullptr;
    std::uint64_t bytes = 0;
    int tag = 0;
    MemoryHandle* memory = nullptr;  // null where bytes is 0
  };
  // nullptr: not now, and nothing happened.
  Result<Request*> receive(std::span<const Buffer> buffers);
  Result<bool> test(Request& request, int* sizes) override;

 private:
  struct Landing {
    std::uint64_t size = 0, bytes = 0;  // that fit, and that are there
    std::uint32_t pieces = 0, all_pieces = 0;
    MemoryHandle* memory = nullptr;
  };
  struct Receive : Request {
    bool active = false;
    std::uint8_t count = 0, landed = 0;  // buffers, and those that are complete
    std::array<Landing, kMaxReceives> buffers;
  };
  // Announcements under way. As many as leave in one go for a few grouped receives; more wait.
  static constexpr std::uint32_t kAnnouncements = 64;

  ReceiveComm(NetDevice& device, std::unique_ptr<CompletionQueue> queue,
              std::unique_ptr<MemoryRegion> announcements);
  void on_event(const Completion& event) override;
  void drop_requests() override;
  void on_piece(const Arrival& arrival, std::uint64_t bytes);
  Status check(const Buffer& buffer) const;
  Status announce(const Announcement& announcement);
  void release(Receive& receive);

  std::unique_ptr<MemoryRegion> announcements_;  // a ring of kAnnouncements
  std::uint32_t announced_ = 0, sent_ = 0;       // so far
  std::array<Receive, kMaxRequests> receives_{};
};

}  // namespace penstock::nccl
