// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/receiver.h"

#include <algorithm>
#include <cstring>

namespace penstock::shm {
namespace {

// Handed out by one poll; more wait for the next.
constexpr std::size_t kMessageRoom = std::size_t{16} * kMaxMessageBytes;
// Copied for one peer before others have their turn: about a hundred microseconds.
constexpr std::uint64_t kCopyBudget = std::uint64_t{1} << 20;

}  // namespace

Receiver::Receiver(const RegionTable& regions, PeerScope scope, std::uint32_t endpoint)
    : regions_(regions),
      scope_(scope),
      endpoint_(endpoint),
      messages_(std::make_unique_for_overwrite<std::byte[]>(kMessageRoom)) {}

Receiver::Fault Receiver::receive(const Peer& peer, const Segment& own, EventSink& sink) {
  // Pairs with the peer's publish(): the entries below are complete, and so are their bytes.
  const std::uint64_t published =
      std::min(peer.segment.words().published.load(std::memory_order_acquire), last_);
  if (finished()) return {};
  if (published - consumed_ > kRingEntries)
    return {Code::kProtocol, "the peer's ring counts what cannot be in it"};
  const std::uint64_t budget_end = copied_bytes_ + fetched_bytes_ + kCopyBudget;
  while (consumed_ != published && copied_bytes_ + fetched_bytes_ < budget_end) {
    const Step step = take(peer.segment.load(consumed_), peer, own, sink);
    if (step == Step::kNoRoom) break;
    if (step == Step::kFault) return fault_;
    ++consumed_;
  }
  return {};
}

Receiver::Step Receiver::take(const Entry& entry, const Peer& peer, const Segment& own,
                              EventSink& sink) {
  if (entry.kind == EntryKind::kMessage) return take_message(entry, peer, sink);
  const bool report = (entry.flags & kEntryImmediate) != 0;
  if (report && !sink.room()) return Step::kNoRoom;
  if (entry.kind != EntryKind::kNotice) {
    const Step step = copy(entry, peer, own);
    if (step != Step::kTaken) return step;
  }
  if (report)
    sink.emit({.event = Event::kImmediate,
               .endpoint = endpoint_,
               .immediate = entry.immediate,
               .length = entry.total,
               .message = {}});
  return Step::kTaken;
}

Receiver::Step Receiver::take_message(const Entry& entry, const Peer& peer, EventSink& sink) {
  if (entry.length > kMaxMessageBytes || entry.position > kAreaBytes - entry.length)
    return fail(Code::kProtocol, "a message outside the peer's segment");
  if (!sink.room() || entry.length > kMessageRoom - messages_used_) return Step::kNoRoom;
  std::byte* const copy = messages_.get() + messages_used_;
  std::memcpy(copy, peer.segment.outgoing(entry.position), entry.length);
  messages_used_ += entry.length;
  sink.emit({.event = Event::kMessage,
             .endpoint = endpoint_,
             .length = entry.length,
             .message = {copy, entry.length}});
  return Step::kTaken;
}

Receiver::Step Receiver::copy(const Entry& entry, const Peer& peer, const Segment& own) {
  const bool fetched = entry.kind == EntryKind::kFetch;
  const bool write = entry.kind == EntryKind::kPiece || fetched;
  if (!write && entry.kind != EntryKind::kRead)
    return fail(Code::kProtocol, "an entry of no known kind");
  if (entry.length > (fetched ? kFetchBytes : kPieceBytes) ||
      (!fetched && entry.position > kAreaBytes - entry.length))
    return fail(Code::kProtocol, "a piece outside the peer's segment");
  std::span<std::byte> bytes;
  RegionTable::Guard guard;
  const Code code = regions_.resolve(entry.key, write ? Access::kRemoteWrite : Access::kRemoteRead,
                                     scope_, entry.offset, entry.length, bytes, guard);
  if (code != Code::kOk) return fail(code, write ? "a write was refused" : "a read was refused");
  if (fetched) return fetch(entry, peer, bytes);
  if (write)
    std::memcpy(bytes.data(), peer.segment.outgoing(entry.position), bytes.size());
  else
    std::memcpy(own.answers(entry.position), bytes.data(), bytes.size());
  copied_bytes_ += bytes.size();
  return Step::kTaken;
}

// Nothing of it is reported unless the peer still lent the bytes when they had been read.
Receiver::Step Receiver::fetch(const Entry& entry, const Peer& peer, std::span<std::byte> to) {
  if (!peer.memory) return fail(Code::kProtocol, "a fetch that cannot be done");
  const Code code = peer.memory.read(entry.position, to);
  if (peer.segment.words().ended.load(std::memory_order_seq_cst) != 0 || peer.gone() ||
      code == Code::kConnectionLost) {
    set_last(consumed_);
    return Step::kNoRoom;
  }
  if (code != Code::kOk) return fail(code, "a fetch from where the peer has nothing");
  fetched_bytes_ += to.size();
  return Step::kTaken;
}

}  // namespace penstock::shm
