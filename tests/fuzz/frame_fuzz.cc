// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes from a peer, in pieces of arbitrary size, against the tcp provider's receiver
// with one region behind it. It may refuse them; it may not touch a byte the peer was not given
// (the address sanitizer watches the region's edges), nor say that something arrived which was not
// in order.
//
// Input: one byte of options, one that seeds the sizes of the pieces, then the stream. With
// kRepair, each 64 bytes at which a header is due become one that passes the first checks, so that
// the search is not stopped by a checksum or a key it cannot guess.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "transport/base/check.h"
#include "transport/base/random.h"
#include "transport/tcp/receiver.h"

namespace penstock::tcp {
namespace {

constexpr Incarnation kIncarnation = 0x1234;
constexpr std::size_t kRegionBytes = 3000;
constexpr std::uint64_t kReadSequence = 7;
enum Option : std::uint8_t { kRepair = 1, kConnector = 2, kAwaitRead = 4, kRealKey = 8 };

class Fuzzed {
 public:
  Fuzzed(std::uint8_t options, std::uint8_t seed, std::span<const std::uint8_t> input)
      : options_(options),
        random_(seed),
        stream_(input.begin(), input.end()),
        table_(kIncarnation, 4),
        region_(kRegionBytes),
        read_target_(100),
        key_(table_.add(region_, Access::kRemoteWrite, kAnyScope).value()),
        receiver_(table_, kAnyScope,
                  has(kConnector) ? Receiver::Side::kConnector : Receiver::Side::kAcceptor) {
    if (has(kAwaitRead)) receiver_.expect_read(kReadSequence, read_target_);
  }

  void run() {
    if (has(kRepair)) repair();
    for (;;) {
      const Arrival arrival = receiver_.next();
      if (arrival.kind == Arrival::Kind::kRefused || arrival.kind == Arrival::Kind::kGarbage)
        return check_end(arrival);
      if (arrival.kind == Arrival::Kind::kFrame) check_frame(arrival);
      if (arrival.kind == Arrival::Kind::kMessageRoom) receiver_.release_messages();
      if (arrival.kind == Arrival::Kind::kNeedBytes && !deliver()) return;
    }
  }

 private:
  bool has(Option option) const { return (options_ & option) != 0; }

  void repair() {
    std::uint64_t sequence = 0;
    for (std::size_t at = 0; stream_.size() - at >= kHeaderBytes;) {
      FrameHeader header;
      std::memcpy(&header, &stream_[at], kHeaderBytes);
      repair(header, sequence);
      std::memcpy(&stream_[at], &header, kHeaderBytes);
      at += kHeaderBytes;
      if (has_payload(header.type))
        at += std::min<std::uint64_t>(header.length, stream_.size() - at);
    }
  }
  void repair(FrameHeader& header, std::uint64_t& sequence) const {
    header.magic = kFrameMagic;
    header.version = kFrameVersion;
    header.type = static_cast<FrameType>(static_cast<unsigned>(header.type) % 10);
    if (is_counted(header.type)) header.sequence = ++sequence;
    if (header.type == FrameType::kWrite) {
      header.flags &= kFlagImmediate;
      if (header.flags == 0) header.immediate = 0;
      if (has(kRealKey)) {
        header.incarnation = kIncarnation;
        header.key = key_;
        header.length %= 2 * kRegionBytes;
      }
    }
    seal(header);
  }

  bool deliver() {
    iovec space[2];
    const int count = receiver_.prepare(space, 1 + random_.below(5000));
    CHECK(count > 0, "it needs bytes and takes none");
    const std::size_t piece = 1 + random_.below(random_.chance(500'000) ? 70 : 4000);
    const std::size_t limit = std::min(stream_.size() - at_, piece);
    std::size_t given = 0;
    for (int i = 0; i < count && given < limit; ++i) {
      const std::size_t bytes = std::min(space[i].iov_len, limit - given);
      std::memcpy(space[i].iov_base, &stream_[at_ + given], bytes);
      given += bytes;
    }
    at_ += given;
    receiver_.commit(given);
    return given > 0;
  }

  void check_frame(const Arrival& arrival) {
    const FrameHeader& header = arrival.header;
    if (is_counted(header.type)) CHECK(header.sequence == ++frames_);
    CHECK(receiver_.applied() == frames_);
    CHECK(receiver_.acked() >= acked_);
    acked_ = receiver_.acked();
    if (header.type == FrameType::kSend) {
      CHECK(arrival.message.size() == header.length && header.length <= kMaxMessageBytes);
      std::uint64_t sum = 0;  // reads every byte, under the sanitizer's eye
      for (const std::byte byte : arrival.message) sum += static_cast<unsigned>(byte);
      CHECK(sum <= 255 * header.length);
    }
    if (header.type == FrameType::kWrite && header.length > 0)
      CHECK(header.offset + header.length <= kRegionBytes && header.key == key_);
    if (header.type == FrameType::kReadResponse)
      CHECK(has(kAwaitRead) && header.length == read_target_.size());
  }
  void check_end(const Arrival& arrival) {
    CHECK(arrival.code != Code::kOk && arrival.what != nullptr);
    iovec space[2];
    CHECK(receiver_.prepare(space, 100) == 0, "it goes on after the end");
    CHECK(receiver_.next().kind == arrival.kind);
  }

  const std::uint8_t options_;
  SeededRandom random_;
  std::vector<std::uint8_t> stream_;
  std::size_t at_ = 0;
  RegionTable table_;
  std::vector<std::byte> region_, read_target_;
  const std::uint64_t key_;
  Receiver receiver_;
  std::uint64_t frames_ = 0, acked_ = 0;
};

}  // namespace
}  // namespace penstock::tcp

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  penstock::tcp::Fuzzed(data[0], data[1], {data + 2, size - 2}).run();
  return 0;
}
