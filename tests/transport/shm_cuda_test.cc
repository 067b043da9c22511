// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// GPU memory over shm: lent to another process by CUDA IPC, never copied. The driver is a fake,
// whose device addresses fault when the host touches them.

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/fake_cuda/fake_cuda.h"
#include "tests/support/pattern.h"
#include "tests/transport/shm_support.h"
#include "transport/hardware/cuda_import.h"

namespace penstock::test {
namespace {

using testing::HasSubstr;

constexpr std::size_t kSlot = key_slot(ProviderKind::kShm);
constexpr std::size_t kBytes = 9'000;

ShmOptions with(const FakeCuda& cuda) {
  ShmOptions options;
  options.cuda = &cuda.driver();
  return options;
}

// What the lender tells of itself.
struct Introduction {
  std::array<char, 64> address{};
  RemoteRegion readable, writable;
  CudaIpcHandle handle{};
};

// Lends a part of an allocation twice, with different rights, until it is killed.
void lend(const Token& token, int out) {
  FakeCuda cuda;
  ShmSide side(with(cuda));
  const std::span<std::byte> buffer = cuda.allocate(20'000).subspan(5'001, kBytes);
  fill_pattern(cuda.contents(buffer), 3);
  const auto enlist = [&](Access access) {
    return side.device->register_memory(buffer, MemoryKind::kCuda, access, kAnyScope).value();
  };
  const auto readable = enlist(Access::kMap);
  const auto writable = enlist(Access::kMap | Access::kRemoteReadWrite);
  side.accept(token);
  Introduction hello{{},
                     readable->describe(),
                     writable->describe(),
                     CudaBuffer::find(cuda.driver(), buffer).value().share().value().handle};
  side.device->address().copy(hello.address.data(), hello.address.size() - 1);
  if (::write(out, &hello, sizeof hello) != sizeof hello) return;
  const auto until = std::chrono::steady_clock::now() + 2 * kTestPatience;
  while (std::chrono::steady_clock::now() < until) side.poll();
}

class ShmCudaProcesses : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    lender_ = ::fork();
    if (lender_ == 0) {
      ::close(ends[0]);
      lend(token_, ends[1]);
      ::_exit(0);
    }
    ::close(ends[1]);
    const UniqueFd from(ends[0]);
    ASSERT_EQ(::read(from.get(), &there_, sizeof there_), sizeof there_);
  }
  void TearDown() override { kill_lender(); }
  void kill_lender() {
    if (lender_ <= 0) return;
    ::kill(lender_, SIGKILL);
    ::waitpid(lender_, nullptr, 0);
    lender_ = 0;
  }
  std::unique_ptr<ShmSide> connect(const FakeCuda& cuda) {
    auto side = std::make_unique<ShmSide>(with(cuda));
    side->connect(there_.address.data(), token_);
    EXPECT_TRUE(side->wait_for(Event::kConnected).has_value());
    return side;
  }
  static Result<std::shared_ptr<RemoteMapping>> map(ShmSide& side, const RemoteRegion& remote,
                                                    Access access) {
    auto mapped = side.endpoint->map(remote, access);
    (void)eventually([&] {
      if (mapped.status().code() == Code::kTimeout) mapped = side.endpoint->map(remote, access);
      return mapped.status().code() != Code::kTimeout;
    });
    return mapped;
  }

  const Token token_ = random_token();
  pid_t lender_ = 0;
  Introduction there_;
};

TEST_F(ShmCudaProcesses, TheMemoryIsOpenFromTheFirstMappingToTheLast) {
  FakeCuda cuda;
  auto side = connect(cuda);
  auto first = map(*side, there_.readable, Access::kMap).value();
  auto second = map(*side, there_.writable, Access::kRemoteWrite).value();
  EXPECT_EQ(first->kind(), MemoryKind::kCuda);
  ASSERT_EQ(first->bytes().size(), kBytes);
  EXPECT_TRUE(has_pattern(cuda.contents(first->bytes()), 3));
  fill_pattern(cuda.contents(second->bytes()), 4);
  EXPECT_TRUE(has_pattern(cuda.contents(first->bytes()), 4));
  EXPECT_EQ(cuda.opened(), 1) << "both lie in one allocation";
  side.reset();
  first.reset();
  EXPECT_EQ(cuda.opened(), 1);
  second.reset();
  EXPECT_EQ(cuda.opened(), 0);
  EXPECT_EQ(cuda.retained(), 0);
}

TEST_F(ShmCudaProcesses, WhatIsNotAllowedIsNotOpened) {
  FakeCuda cuda;
  const auto side = connect(cuda);
  EXPECT_EQ(map(*side, there_.readable, Access::kRemoteWrite).status().code(), Code::kAccess);
  EXPECT_EQ(cuda.opened(), 0);
  EXPECT_TRUE(side->endpoint->connected());
}

TEST_F(ShmCudaProcesses, AGpuThatThisProcessDoesNotSeeIsNamedAndTheConnectionLives) {
  FakeCuda cuda({FakeGpu{.pci = "0000:b2:00.0"}});
  const auto side = connect(cuda);
  const Status status = map(*side, there_.readable, Access::kMap).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("0000:17:00.0"));
  EXPECT_THAT(status.to_string(), HasSubstr("CUDA_VISIBLE_DEVICES"));
  EXPECT_TRUE(side->endpoint->connected());
}

TEST_F(ShmCudaProcesses, MemoryThatCudaDoesNotOpenIsNamedAndTheConnectionLives) {
  FakeCuda cuda;
  const auto side = connect(cuda);
  cuda.fail("cuIpcOpenMemHandle", 205);  // CUDA_ERROR_MAP_FAILED
  const Status status = map(*side, there_.readable, Access::kMap).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.what(), HasSubstr("cuIpcOpenMemHandle answers 205"));
  EXPECT_TRUE(side->endpoint->connected());
  EXPECT_EQ(cuda.retained(), 0);
  cuda.fail("cuIpcOpenMemHandle", 0);
  EXPECT_TRUE(map(*side, there_.readable, Access::kMap).ok());
}

// The lender says how much its handle opens; only opening it shows.
TEST_F(ShmCudaProcesses, AHandleThatOpensLessThanWasSaidIsClosedAgain) {
  FakeCuda cuda;
  CudaShare share{there_.handle, FakeGpu{}.pci, 1U << 30, 20'400};
  EXPECT_EQ(CudaImport::open(cuda.driver(), share, 81).status().code(), Code::kProtocol);
  EXPECT_EQ(cuda.opened(), 0);
  EXPECT_TRUE(CudaImport::open(cuda.driver(), share, 80).ok());
}

TEST_F(ShmCudaProcesses, PostsAreRefusedInWordsAndTheConnectionLives) {
  FakeCuda cuda;
  const auto side = connect(cuda);
  const auto host = side->device->allocate_memory(64, Access::kLocal).value();
  const Status to = side->write(*host, there_.writable, 1);
  EXPECT_EQ(to.code(), Code::kUnsupported);
  EXPECT_THAT(to.to_string(), HasSubstr("map the GPU's and copy with CUDA"));
  const auto gpu =
      side->device->register_memory(cuda.allocate(64), MemoryKind::kCuda, Access::kLocal, kAnyScope)
          .value();
  EXPECT_EQ(gpu->part(ProviderKind::kShm), gpu.get());
  const Status from =
      side->endpoint->post({.opcode = Opcode::kSend, .local = gpu.get(), .length = 8});
  EXPECT_EQ(from.code(), Code::kUnsupported);
  EXPECT_THAT(from.what(), HasSubstr("the local bytes are GPU memory"));
  EXPECT_TRUE(side->endpoint->connected());
}

// A device with a GPU and a peer that keeps to no rule.
class ShmCuda : public ::testing::Test {
 protected:
  std::unique_ptr<MemoryRegion> enlist(Access access) {
    return server_.device->register_memory(buffer_, MemoryKind::kCuda, access, kAnyScope).value();
  }
  void befriend() {
    const Token token = random_token();
    server_.accept(token);
    raw_.connect(server_.device->address());
    ASSERT_EQ(raw_.say_hello(token), 0);
    ASSERT_TRUE(raw_.hear(server_));
    ASSERT_TRUE(server_.wait_for(Event::kConnected).has_value());
  }
  // The server maps a region of the peer's, which answers with `grant`.
  Status map(shm::Message grant) {
    RemoteRegion claimed;
    claimed.maps = provider_bit(ProviderKind::kShm);
    claimed.incarnation = raw_.hello.incarnation;
    claimed.length = 64;
    claimed.key[kSlot] = 3;
    EXPECT_EQ(server_.endpoint->map(claimed, Access::kMap).status().code(), Code::kTimeout);
    EXPECT_TRUE(raw_.hear(server_));
    EXPECT_EQ(raw_.heard.message.kind, shm::MessageKind::kAsk);
    grant.kind = shm::MessageKind::kGrant;
    grant.key = 3;
    grant.to_map = 1;
    grant.access = Access::kMap;
    grant.memory = MemoryKind::kCuda;
    EXPECT_EQ(shm::send_message(raw_.socket.get(), grant), 0);
    return server_.endpoint->map(claimed, Access::kMap).status();
  }

  FakeCuda cuda_;
  ShmSide server_{with(cuda_)};
  const std::span<std::byte> buffer_ = cuda_.allocate(10'000);
  RawPeer raw_;
};

TEST_F(ShmCuda, APieceForGpuMemoryIsRefusedUntouched) {
  const auto region = enlist(Access::kRemoteReadWrite);
  befriend();
  raw_.publish({.kind = shm::EntryKind::kPiece, .length = 8, .key = region->describe().key[kSlot]});
  const auto end = server_.wait_for(Event::kDisconnected);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code, Code::kUnsupported);
  EXPECT_TRUE(all_zero(cuda_.contents(buffer_)));
}

TEST_F(ShmCuda, AGrantBeyondItsOwnAllocationEndsTheConnection) {
  befriend();
  shm::Message grant;
  grant.length = 64;
  grant.block_bytes = 4'096;
  grant.block_offset = 4'090;
  EXPECT_EQ(map(grant).code(), Code::kProtocol);
  EXPECT_FALSE(server_.endpoint->connected());
}

TEST_F(ShmCuda, ThisProcessDoesNotOpenItsOwnMemory) {
  const auto region = enlist(Access::kMap);
  befriend();
  raw_.send(shm::MessageKind::kAsk, region->describe().key[kSlot]);
  ASSERT_TRUE(raw_.hear(server_));
  EXPECT_EQ(raw_.heard.fd_count, 0U);
  EXPECT_EQ(raw_.heard.message.memory, MemoryKind::kCuda);
  const Status status = map(raw_.heard.message);
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("memory of other processes"));
  EXPECT_TRUE(server_.endpoint->connected());
}

TEST_F(ShmCuda, OnlyWhatAPeerMayHaveIsLent) {
  const auto region = enlist(Access::kLocal);
  EXPECT_EQ(region->describe().maps, 0);
  befriend();
  raw_.send(shm::MessageKind::kAsk, region->describe().key[kSlot]);
  ASSERT_TRUE(raw_.hear(server_));
  EXPECT_EQ(raw_.heard.message.memory, MemoryKind::kHost);
  EXPECT_TRUE(std::all_of(std::begin(raw_.heard.message.cuda.bytes),
                          std::end(raw_.heard.message.cuda.bytes),
                          [](char byte) { return byte == 0; }));
}

TEST_F(ShmCuda, WhatCudaDoesNotLendIsRefusedWithTheReason) {
  cuda_.fail("cuIpcGetMemHandle", 1);
  const Status status =
      server_.device->register_memory(buffer_, MemoryKind::kCuda, Access::kMap, kAnyScope).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("cuIpcGetMemHandle answers 1"));
  EXPECT_THAT(status.to_string(), HasSubstr("cudaMalloc"));
  EXPECT_EQ(cuda_.retained(), 0);
}

}  // namespace
}  // namespace penstock::test
