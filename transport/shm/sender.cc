// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/sender.h"

#include <bit>
#include <cstring>

namespace penstock::shm {

Sender::Sender(std::uint32_t depth)
    : depth_(depth),
      mask_(std::bit_ceil(std::uint64_t{depth}) - 1),
      posts_(mask_ + 1),
      records_(kRingEntries) {}

void Sender::retire_oldest() {
  if (oldest_ == next_) ++next_;  // never started: the connection ended
  ++oldest_;
}

bool Sender::reserve(std::size_t length, std::uint64_t& position) {
  std::uint64_t begin = area_end_;
  if (begin % kAreaBytes + length > kAreaBytes) begin += kAreaBytes - begin % kAreaBytes;
  if (begin + length - area_begin_ > kAreaBytes) return false;
  position = begin % kAreaBytes;
  area_end_ = begin + length;
  return true;
}

bool Sender::push_entry(const Segment& own, Post& post, EntryKind kind, std::size_t length) {
  if (pushed_ - acked_ == kRingEntries) return false;
  Entry entry{.kind = kind,
              .immediate = post.immediate,
              .length = length,
              .total = post.local.size(),
              .key = post.key,
              .offset = post.offset + post.moved};
  const bool carries = kind != EntryKind::kNotice;
  std::byte* const local = carries ? post.local.data() + post.moved : nullptr;
  if (kind == EntryKind::kFetch)
    entry.position = reinterpret_cast<std::uintptr_t>(local);
  else if (carries && !reserve(length, entry.position))
    return false;
  const bool last = !carries || post.moved + length == post.local.size();
  if (post.has_immediate && last) entry.flags = kEntryImmediate;
  Record& record = records_[pushed_ % kRingEntries];
  record = {.area_end = area_end_, .into = nullptr, .position = entry.position, .length = length};
  if (kind == EntryKind::kRead)
    record.into = local;
  else if (kind != EntryKind::kFetch && length > 0)
    std::memcpy(own.outgoing(entry.position), local, length);
  own.store(pushed_++, entry);
  if (kind != EntryKind::kNotice && kind != EntryKind::kMessage) needed_ = pushed_;
  if (kind == EntryKind::kFetch) fetches_ = {fetches_[1], pushed_};
  if (carries) post.moved += length;
  return true;
}

bool Sender::acknowledge(std::uint64_t consumed, const Segment& peer) {
  if (consumed - acked_ > pushed_ - acked_) return false;
  for (; acked_ < consumed; ++acked_) {
    const Record& record = records_[acked_ % kRingEntries];
    if (record.into != nullptr)
      std::memcpy(record.into, peer.answers(record.position), record.length);
    area_begin_ = record.area_end;
  }
  return true;
}

}  // namespace penstock::shm
