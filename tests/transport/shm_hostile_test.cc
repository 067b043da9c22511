// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What a shm device makes of connections and peers that do not keep the rules: a named error for
// them, and everyone else goes on.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "tests/support/descriptors.h"
#include "tests/transport/shm_support.h"
#include "transport/shm/listener.h"

namespace penstock::test {
namespace {

// A server with one endpoint for the hostile peer; good() shows that the server still serves.
class ShmHostile : public ::testing::Test {
 protected:
  void expect_refused(Code code) {
    ASSERT_TRUE(raw_.hear(server_));
    EXPECT_EQ(raw_.heard.message.kind, shm::MessageKind::kRefusal);
    EXPECT_EQ(code_name(raw_.heard.message.code), code_name(code));
    EXPECT_NE(shm::refusal(code).what(), "");
    EXPECT_FALSE(server_.endpoint->connected());
    expect_right_one_served();
  }
  // The endpoint that the hostile one aimed at is still there for who names its token rightly.
  void expect_right_one_served() {
    ShmSide good;
    good.connect(server_.device->address(), token_);
    good.peer = &server_;
    EXPECT_TRUE(good.wait_for(Event::kConnected).has_value());
    EXPECT_TRUE(good.endpoint->connected());
  }
  void befriend() {
    raw_.connect(server_.device->address());
    ASSERT_EQ(raw_.say_hello(token_), 0);
    ASSERT_TRUE(raw_.hear(server_));
    ASSERT_EQ(raw_.heard.message.kind, shm::MessageKind::kWelcome);
    ASSERT_TRUE(server_.wait_for(Event::kConnected).has_value());
  }
  // The server ends the connection for that reason and says so.
  void expect_thrown_out(Code code) {
    const auto end = server_.wait_for(Event::kDisconnected);
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(code_name(end->code), code_name(code));
    EXPECT_NE(server_.endpoint->status().what(), "");
    bool told = false;
    while (!told && raw_.hear(server_)) told = raw_.heard.message.kind == shm::MessageKind::kFault;
    EXPECT_TRUE(told);
    server_.endpoint.reset();
    server_.accept(token_);
    expect_right_one_served();
  }

  void SetUp() override { server_.accept(token_); }

  const Token token_ = random_token();
  ShmSide server_;
  RawPeer raw_;
};

TEST_F(ShmHostile, AWrongTokenIsRefusedAtOnce) {
  raw_.connect(server_.device->address());
  ASSERT_EQ(raw_.say_hello(random_token()), 0);
  expect_refused(Code::kUnauthenticated);
}

TEST_F(ShmHostile, AnotherVersionIsRefused) {
  raw_.hello.version = shm::kVersion + 1;
  raw_.connect(server_.device->address());
  ASSERT_EQ(raw_.say_hello(token_), 0);
  expect_refused(Code::kUnsupported);
}

TEST_F(ShmHostile, GarbageIsRefused) {
  raw_.connect(server_.device->address());
  const std::string garbage(300, 'x');
  ASSERT_EQ(::send(raw_.socket.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL), 300);
  expect_refused(Code::kProtocol);
}

TEST_F(ShmHostile, AMessageBeforeTheHelloIsRefused) {
  raw_.hello.kind = shm::MessageKind::kAsk;
  raw_.connect(server_.device->address());
  ASSERT_EQ(raw_.say_hello(token_), 0);
  expect_refused(Code::kProtocol);
}

TEST_F(ShmHostile, AHelloWithoutItsMemoryIsRefused) {
  raw_.fds.pop_back();
  raw_.connect(server_.device->address());
  ASSERT_EQ(raw_.say_hello(token_), 0);
  expect_refused(Code::kProtocol);
}

TEST_F(ShmHostile, MemoryWhoseSizeIsNotSealedIsRefused) {
  const UniqueFd loose(::memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(loose.get(), shm::kSegmentBytes), 0);
  raw_.fds[shm::kSegmentFd] = loose.get();
  raw_.connect(server_.device->address());
  ASSERT_EQ(raw_.say_hello(token_), 0);
  expect_refused(Code::kProtocol);
}

TEST_F(ShmHostile, MemoryThatIsTooSmallIsRefused) {
  const auto small = shm::create_shared(4096, shm::Others::kRead).value();
  raw_.fds[shm::kRegionsFd] = small.fd.get();
  raw_.connect(server_.device->address());
  ASSERT_EQ(raw_.say_hello(token_), 0);
  expect_refused(Code::kProtocol);
}

TEST_F(ShmHostile, AFileInPlaceOfMemoryIsRefused) {
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  raw_.fds[shm::kSegmentFd] = file.get();
  raw_.connect(server_.device->address());
  ASSERT_EQ(raw_.say_hello(token_), 0);
  expect_refused(Code::kProtocol);
}

TEST_F(ShmHostile, ABellThatCouldBlockIsRefused) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  raw_.fds[shm::kBellFd] = in.get();
  raw_.connect(server_.device->address());
  ASSERT_EQ(raw_.say_hello(token_), 0);
  expect_refused(Code::kProtocol);
}

TEST_F(ShmHostile, DescriptorsNobodyAskedForAreClosed) {
  const std::size_t before = open_descriptors();
  raw_.connect(server_.device->address());
  // More than a hello has, in a message of the right size.
  shm::Message hello = raw_.hello;
  hello.token = token_;
  iovec part{&hello, sizeof hello};
  std::array<int, 8> fds;
  fds.fill(raw_.bell.get());
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof fds)> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* const rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fds);
  std::memcpy(CMSG_DATA(rights), fds.data(), sizeof fds);
  ASSERT_EQ(::sendmsg(raw_.socket.get(), &header, MSG_NOSIGNAL), sizeof hello);
  ASSERT_TRUE(raw_.hear(server_));
  EXPECT_EQ(raw_.heard.message.code, Code::kProtocol);
  raw_.socket.reset();
  for (int i = 0; i < 10; ++i) server_.poll();
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(ShmHostile, SilentConnectionsDoNotKeepOthersOut) {
  std::vector<UniqueFd> silent;
  const std::string name = shm::parse_address(server_.device->address()).value().name;
  for (int i = 0; i < 400; ++i) {
    silent.push_back(shm::connect_to(name).value());
    if (i % 50 == 0) server_.poll();
  }
  expect_right_one_served();
}

TEST_F(ShmHostile, RingCountersOutOfRangeEndTheConnection) {
  befriend();
  raw_.segment.words().published.store(shm::kRingEntries + 1, std::memory_order_seq_cst);
  expect_thrown_out(Code::kProtocol);
}

TEST_F(ShmHostile, AConsumerAheadOfItsProducerEndsTheConnection) {
  befriend();
  raw_.segment.words().consumed.store(1, std::memory_order_seq_cst);
  expect_thrown_out(Code::kProtocol);
}

TEST_F(ShmHostile, EntriesOutsideTheSegmentEndTheConnection) {
  using enum shm::EntryKind;
  const std::vector<shm::Entry> bad{
      {.kind = static_cast<shm::EntryKind>(0)},
      {.kind = static_cast<shm::EntryKind>(99), .length = 8},
      {.kind = kMessage, .length = shm::kMaxMessageBytes + 1},
      {.kind = kMessage, .length = 16, .position = shm::kAreaBytes - 15},
      {.kind = kPiece, .length = 16, .position = shm::kAreaBytes - 15},
      {.kind = kPiece, .length = 16, .position = UINT64_MAX - 7},
      {.kind = kPiece, .length = shm::kPieceBytes + 1},
      {.kind = kRead, .length = UINT64_MAX},
  };
  for (const shm::Entry& entry : bad) {
    befriend();
    raw_.publish(entry);
    expect_thrown_out(Code::kProtocol);
    raw_.segment.words().published.store(raw_.published = 0, std::memory_order_seq_cst);
    server_.events.clear();
    server_.endpoint.reset();
    server_.accept(token_);
  }
}

TEST_F(ShmHostile, APieceForARegionItMayNotReachIsRefused) {
  std::vector<std::byte> bytes(64);
  const auto local =
      server_.device->register_memory(bytes, MemoryKind::kHost, Access::kRemoteRead, kAnyScope)
          .value();
  befriend();
  raw_.publish({.kind = shm::EntryKind::kPiece,
                .length = 8,
                .key = local->describe().key[key_slot(ProviderKind::kShm)]});
  expect_thrown_out(Code::kAccess);
  EXPECT_EQ(bytes[0], std::byte{0});
}

TEST_F(ShmHostile, AnAnswerThatWasNotAskedForEndsTheConnection) {
  befriend();
  raw_.send(shm::MessageKind::kGrant, 5);
  expect_thrown_out(Code::kProtocol);
}

TEST_F(ShmHostile, AGrantOfMemoryThatCouldShrinkEndsTheConnection) {
  befriend();
  const UniqueFd loose(::memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(loose.get(), 8192), 0);
  std::vector<std::byte> bytes(64);
  const auto from =
      server_.device->register_memory(bytes, MemoryKind::kHost, Access::kLocal, kAnyScope).value();
  RemoteRegion claimed;
  claimed.providers = provider_bit(ProviderKind::kShm);
  claimed.incarnation = 77;
  claimed.length = 64;
  claimed.key[key_slot(ProviderKind::kShm)] = 3;
  raw_.claim_region(3, 64, {.access = Access::kRemoteWrite, .shared = true});
  ASSERT_EQ(server_.write(*from, claimed, 1).to_string(), "ok");
  ASSERT_TRUE(raw_.hear(server_));
  ASSERT_EQ(raw_.heard.message.kind, shm::MessageKind::kAsk);
  shm::Message grant = raw_.heard.message;
  grant.kind = shm::MessageKind::kGrant;
  grant.access = Access::kRemoteWrite;
  grant.length = 64;
  grant.block = 1;
  grant.block_bytes = 8192;
  const int fd = loose.get();
  ASSERT_EQ(shm::send_message(raw_.socket.get(), grant, {&fd, 1}), 0);
  raw_.segment.words().mail.store(9, std::memory_order_seq_cst);
  const auto done = server_.wait_for(Event::kWriteDone);
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->code, Code::kProtocol);
  expect_thrown_out(Code::kProtocol);
}

// What it says of its memory is tried, not believed: the kernel copies only after a word of it was
// read, and where nothing lies no byte goes.
TEST_F(ShmHostile, WhatIsNotItsMemoryIsNeverCopiedTo) {
  const std::uint64_t word = 0x1234'5678'9abc'def1;
  std::array<std::byte, 64> target{};
  std::vector<std::byte> bytes(64, std::byte{5});
  const auto from =
      server_.device->register_memory(bytes, MemoryKind::kHost, Access::kLocal, kAnyScope).value();
  RemoteRegion claimed;
  claimed.providers = provider_bit(ProviderKind::kShm);
  claimed.incarnation = 77;
  claimed.length = 64;
  claimed.key[key_slot(ProviderKind::kShm)] = 3;
  const auto address = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at); };
  struct Claim {
    std::uint64_t probe;  // of `word`
    std::uint64_t base;
    Code code;  // of the write
  };
  for (const Claim& claim :
       {Claim{word, address(target.data()), Code::kOk}, Claim{word, 16, Code::kAccess},
        Claim{word, UINT64_MAX - 7, Code::kAccess},
        Claim{word + 1, address(target.data()), Code::kCancelled}}) {
    target = {};
    raw_.hello.probe_address = address(&word);
    raw_.hello.probe = claim.probe;
    raw_.claim_region(3, 64, {.access = Access::kRemoteWrite}, claim.base);
    befriend();
    ASSERT_TRUE(server_.write(*from, claimed, 1).ok());
    if (claim.code == Code::kCancelled) {  // pieces in the ring, for its owner to take
      const int fd = raw_.heard.fds[shm::kSegmentFd].get();  // of its welcome
      const shm::Segment its(shm::map_shared(fd, shm::kSegmentBytes, false).value());
      ASSERT_TRUE(eventually([&] {
        server_.poll();
        return its.words().published.load(std::memory_order_acquire) == 1;
      }));
      server_.endpoint->close();
    }
    const auto done = server_.wait_for(Event::kWriteDone);
    ASSERT_TRUE(done.has_value());
    EXPECT_EQ(done->code, claim.code);
    EXPECT_EQ(target[63] == std::byte{5}, claim.code == Code::kOk);
    raw_.socket.reset();
    server_.events.clear();
    server_.endpoint.reset();
    server_.accept(token_);
  }
}

TEST_F(ShmHostile, WhatItLeavesToUsIsFetchedFromWhereItLendsIt) {
  const std::uint64_t word = 0x1234'5678'9abc'def1;
  const std::array<std::byte, 64> lent{std::byte{6}};
  std::vector<std::byte> bytes(64);
  const auto to =
      server_.device->register_memory(bytes, MemoryKind::kHost, Access::kRemoteWrite, kAnyScope)
          .value();
  const auto address = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at); };
  const auto begin = [&](bool reachable, std::uint64_t from, std::uint64_t length = 64) {
    raw_.hello.probe_address = reachable ? address(&word) : 0;
    raw_.hello.probe = word;
    befriend();
    raw_.publish({.kind = shm::EntryKind::kFetch,
                  .flags = shm::kEntryImmediate,
                  .immediate = 9,
                  .length = length,
                  .key = to->describe().key[key_slot(ProviderKind::kShm)],
                  .position = from});
  };
  const auto again = [&] {
    raw_.socket.reset();
    raw_.segment.words().published.store(raw_.published = 0, std::memory_order_seq_cst);
    server_.events.clear();
    server_.endpoint.reset();
    server_.accept(token_);
  };
  begin(true, address(lent.data()));
  EXPECT_EQ(server_.wait_for(Event::kImmediate)->immediate, 9U);
  EXPECT_EQ(bytes[0], std::byte{6});
  again();
  begin(true, 16);
  expect_thrown_out(Code::kAccess);
  again();
  begin(false, address(lent.data()));
  expect_thrown_out(Code::kProtocol);
  again();
  begin(true, address(lent.data()), shm::kFetchBytes + 1);
  expect_thrown_out(Code::kProtocol);
  again();
  raw_.segment.words().ended.store(1, std::memory_order_seq_cst);
  begin(true, address(lent.data()));
  for (int i = 0; i < 200; ++i) server_.poll();
  raw_.socket.reset();
  ASSERT_TRUE(server_.wait_for(Event::kDisconnected).has_value());
  for (const Completion& event : server_.events)
    EXPECT_NE(event.event, Event::kImmediate) << "of bytes that were lent no longer";
}

TEST_F(ShmHostile, MemoryForReadingCannotBeMappedForWriting) {
  const auto region = server_.device->allocate_memory(4096, Access::kMap).value();
  befriend();
  raw_.send(shm::MessageKind::kAsk, region->describe().key[key_slot(ProviderKind::kShm)]);
  ASSERT_TRUE(raw_.hear(server_));
  ASSERT_EQ(raw_.heard.fd_count, 1U);
  const int fd = raw_.heard.fds[0].get();
  EXPECT_TRUE(shm::map_shared(fd, 4096, false).ok());
  EXPECT_FALSE(shm::map_shared(fd, 4096, true).ok());
  // Nor by opening it again: the memory itself is sealed.
  const UniqueFd again(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(again.valid() && shm::map_shared(again.get(), 4096, true).ok());
}

}  // namespace
}  // namespace penstock::test
