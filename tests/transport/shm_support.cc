// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/shm_support.h"

#include <sys/eventfd.h>

namespace penstock::test {

RawPeer::RawPeer()
    : memory(shm::create_shared(shm::kSegmentBytes, shm::Others::kRead).value()),
      regions(shm::create_shared(shm::kMaxRegions * sizeof(shm::RegionEntry), shm::Others::kRead)
                  .value()),
      bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      segment(std::move(memory.mapping)),
      fds{memory.fd.get(), regions.fd.get(), bell.get()} {
  hello.kind = shm::MessageKind::kHello;
  hello.incarnation = 77;
}

void RawPeer::connect(const std::string& address) {
  socket = shm::connect_to(shm::parse_address(address).value().name).value();
}

int RawPeer::say_hello(const Token& token) {
  hello.token = token;
  return shm::send_message(socket.get(), hello, fds);
}

bool RawPeer::hear(ShmSide& side) {
  shm::Heard got = shm::Heard::kNothing;
  (void)eventually([&] {
    side.poll();
    got = shm::receive(socket.get(), heard);
    return got != shm::Heard::kNothing;
  });
  return got == shm::Heard::kMessage;
}

void RawPeer::send(shm::MessageKind kind, std::uint64_t key) {
  shm::Message message;
  message.kind = kind;
  message.key = key;
  EXPECT_EQ(shm::send_message(socket.get(), message), 0);
  segment.words().mail.store(segment.words().mail.load(std::memory_order_relaxed) + 1,
                             std::memory_order_seq_cst);
}

void RawPeer::publish(const shm::Entry& entry) {
  segment.store(published++, entry);
  segment.words().published.store(published, std::memory_order_seq_cst);
}

void RawPeer::claim_region(std::uint64_t key, std::uint64_t length, const shm::RegionRights& rights,
                           std::uint64_t base) {
  shm::RegionEntry& entry = regions.mapping.as<shm::RegionEntry>()[static_cast<std::uint32_t>(key)];
  entry.base.store(base, std::memory_order_relaxed);
  entry.length.store(length, std::memory_order_relaxed);
  entry.rights.store(shm::pack(rights), std::memory_order_relaxed);
  entry.key.store(key, std::memory_order_release);
}

}  // namespace penstock::test
