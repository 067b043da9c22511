// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/data_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace penstock::pslite {
namespace {

std::size_t count(const penstock_ps_bytes& bytes, std::size_t size) {
  return static_cast<std::size_t>(bytes.size / size);
}

std::uint64_t key_at(const MessagePart& keys, std::size_t i) {
  std::uint64_t key = 0;
  std::memcpy(&key, keys.bytes.data() + i * sizeof key, sizeof key);
  return key;
}

std::int32_t length_at(const MessagePart& lens, std::size_t i) {
  std::int32_t length = 0;
  std::memcpy(&length, lens.bytes.data() + i * sizeof length, sizeof length);
  return length;
}

// Moving so many bytes costs less than waking a thread.
constexpr std::size_t kPlainBytes = std::size_t{16} << 10;

MessagePart cut_out(const MessagePart& part, std::uint64_t at, std::uint64_t bytes) {
  return {part.bytes.subspan(at, bytes), part.owner};
}

}  // namespace

MessagePart take_over(const penstock_ps_bytes& bytes) {
  MessagePart part;
  part.bytes = {static_cast<std::byte*>(bytes.data), static_cast<std::size_t>(bytes.size)};
  if (bytes.release != nullptr)
    part.owner = std::shared_ptr<const void>(bytes.owner, bytes.release);
  return part;
}

DataRequest::DataRequest(const penstock_ps_data_request& given, std::uint64_t value_size)
    : given_(given),
      value_size_(value_size),
      keys_(take_over(given.keys)),
      vals_(take_over(given.vals)),
      lens_(take_over(given.lens)) {}

DataRequest::~DataRequest() { finish(false); }

void DataRequest::finish(bool answered) {
  if (std::exchange(told_, true)) return;
  given_.done(given_.context, answered ? 1 : 0);
}

// ---- cutting ------------------------------------------------------------------------------------

// Where each key's values end, of what is pushed and, if it can be told, of what comes back.
Status DataRequest::measure() {
  const std::size_t keys = count(given_.keys, sizeof(std::uint64_t));
  const std::size_t lens = count(given_.lens, sizeof(std::int32_t));
  if (lens != 0 && lens != keys)
    return {Code::kInvalidArgument,
            fmt::format("{} keys have {} lens: one each, or none", keys, lens)};
  Ends ends{.known = true};
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < lens; ++i) {
    const std::int32_t length = length_at(lens_, i);
    if (length < 0)
      return {Code::kInvalidArgument,
              fmt::format("len {} of key {} is negative", length, key_at(keys_, i))};
    ends.by_key.push_back(total += static_cast<std::uint64_t>(length) * value_size_);
  }
  const auto even = [&](std::uint64_t bytes) { return Ends{.known = true, .each = bytes / keys}; };
  const std::uint64_t pushed = given_.vals.size;
  if (lens != 0 && given_.push != 0 && pushed != total)
    return {Code::kInvalidArgument, fmt::format("{} values are pushed, but lens add up to {}",
                                                pushed / value_size_, total / value_size_)};
  if (lens == 0 && (pushed / value_size_) % keys != 0)
    return {Code::kInvalidArgument,
            fmt::format("{} values for {} keys: without lens every key has as many",
                        pushed / value_size_, keys)};
  if (given_.push != 0) push_ends_ = lens != 0 ? ends : even(pushed);
  if (given_.pull_to == nullptr) return {};
  if (lens != 0 && total == given_.pull_size) pull_ends_ = std::move(ends);
  if (lens == 0 && (given_.pull_size / value_size_) % keys == 0)
    pull_ends_ = even(given_.pull_size);
  return {};
}

Status DataRequest::find_slices(std::uint32_t servers) {
  const std::size_t keys = count(given_.keys, sizeof(std::uint64_t));
  const std::uint64_t each = given_.max_key / servers;
  std::vector<bool> seen(servers);
  std::uint64_t begin = 0, end = 0;  // of the keys of the last slice's server
  for (std::size_t i = 0; i < keys; ++i) {
    const std::uint64_t key = key_at(keys_, i);
    if (slices_.empty() || key < begin || key >= end) {
      const std::uint64_t owner = key / each;
      if (owner >= servers)
        return {Code::kInvalidArgument,
                fmt::format("key {} is above the last server's range, which ends at {}", key,
                            each * servers)};
      if (seen[owner])
        return {Code::kInvalidArgument,
                fmt::format("key {} of server {} comes after another server's keys: keys must "
                            "ascend",
                            key, owner)};
      seen[owner] = true;
      begin = each * owner;
      end = begin + each;
      slices_.push_back({server_id(static_cast<Rank>(owner)), i, 0});
    }
    ++slices_.back().keys;
  }
  for (Slice& slice : slices_) {
    const std::size_t last = slice.first + slice.keys;
    if (push_ends_.known) {
      slice.push_at = push_ends_.before(slice.first);
      slice.push_bytes = push_ends_.before(last) - slice.push_at;
    }
    if (!pull_ends_.known) continue;
    slice.pull_at = pull_ends_.before(slice.first);
    slice.pull_bytes = pull_ends_.before(last) - slice.pull_at;
  }
  return {};
}

Result<std::vector<Message>> DataRequest::cut(std::uint32_t servers, int app, int customer,
                                              int timestamp) {
  std::vector<Message> messages;
  if (given_.keys.size == 0) return messages;
  if (servers == 0) return Status(Code::kInvalidArgument, "this job has no servers for keys");
  PENSTOCK_RETURN_IF_ERROR(measure());
  PENSTOCK_RETURN_IF_ERROR(find_slices(servers));
  missing_ = slices_.size();
  for (const Slice& slice : slices_)
    messages.push_back(make_message(slice, app, customer, timestamp));
  return messages;
}

Message DataRequest::make_message(const Slice& slice, int app, int customer, int timestamp) const {
  Message message = make(Kind::kRequest, slice.server);
  Envelope& envelope = message.envelope;
  envelope.flags =
      static_cast<std::uint8_t>((given_.push != 0 ? kPush : 0) | (given_.pull != 0 ? kPull : 0));
  envelope.app = app;
  envelope.customer = customer;
  envelope.timestamp = timestamp;
  envelope.head = given_.command;
  envelope.keys = slice.keys;
  envelope.first_key = key_at(keys_, slice.first);
  envelope.values =
      (given_.push != 0 ? slice.push_bytes : slice.pull_bytes.value_or(0)) / value_size_;
  message.priority = given_.priority;
  message.parts = {
      cut_out(keys_, slice.first * sizeof(std::uint64_t), slice.keys * sizeof(std::uint64_t)),
      cut_out(vals_, slice.push_at, slice.push_bytes)};
  if (!lens_.bytes.empty())
    message.parts.push_back(
        cut_out(lens_, slice.first * sizeof(std::int32_t), slice.keys * sizeof(std::int32_t)));
  return message;
}

// ---- answers ------------------------------------------------------------------------------------

std::span<std::byte> DataRequest::place(int server, std::uint64_t size) const {
  for (const Slice& slice : slices_)
    if (slice.server == server && !slice.done && slice.pull_bytes == size)
      return {static_cast<std::byte*>(given_.pull_to) + slice.pull_at,
              static_cast<std::size_t>(size)};
  return {};
}

bool DataRequest::plain(const Message& answer) const {
  if (given_.plain == 0 || slices_.size() != 1) return false;
  if (answer.parts.size() < kVals) return true;
  const std::span<std::byte> vals = answer.parts[kVals - 1].bytes;
  return vals.size() <= kPlainBytes || vals.data() == given_.pull_to;
}

bool DataRequest::answer(Message&& message) {
  for (Slice& slice : slices_) {
    if (slice.server != message.peer || slice.done) continue;
    slice.done = true;
    slice.answer = std::move(message);
    --missing_;
    return true;
  }
  return false;
}

Status DataRequest::assemble() {
  if (given_.pull == 0) return {};
  std::uint64_t total = 0;
  for (const Slice& slice : slices_) {
    total += slice.bytes();
    if (slice.answer.envelope.keys != slice.keys && slice.answer.envelope.keys != 0)
      return {Code::kProtocol,
              fmt::format("server {} was asked for {} keys and answered for {}",
                          rank_of(slice.server), slice.keys, slice.answer.envelope.keys)};
  }
  PENSTOCK_RETURN_IF_ERROR(assemble_lens());
  if (given_.pull_to != nullptr) {
    if (total == given_.pull_size) return fill(static_cast<std::byte*>(given_.pull_to));
    return {Code::kInvalidArgument,
            fmt::format("a pull into {} bytes was answered with {}: the array must be empty or fit",
                        given_.pull_size, total)};
  }
  if (total == 0) return {};
  penstock_ps_bytes adopt{};
  for (const Slice& slice : slices_)
    if (slice.bytes() == total) {
      const MessagePart& part = slice.answer.parts[kVals - 1];
      adopt = {part.bytes.data(), total, new std::shared_ptr<const void>(part.owner),
               [](void* owner) { delete static_cast<std::shared_ptr<const void>*>(owner); }};
    }
  auto* const owner = static_cast<std::shared_ptr<const void>*>(adopt.owner);
  void* const to = given_.place_vals(given_.context, total, &adopt);
  if (to == nullptr) return {};  // adopted
  delete owner;
  return fill(static_cast<std::byte*>(to));
}

// Some may be there already. If one of those lies where another's values belong, all are moved.
Status DataRequest::fill(std::byte* to) {
  std::uint64_t at = 0;
  bool wrong = false;
  for (const Slice& slice : slices_) {
    const std::byte* const from =
        slice.bytes() == 0 ? nullptr : slice.answer.parts[kVals - 1].bytes.data();
    wrong |= from != nullptr && from != to + at && from == to + slice.pull_at &&
             slice.pull_bytes.has_value();
    at += slice.bytes();
  }
  std::vector<std::byte> aside;
  if (wrong) aside.resize(at);
  std::byte* const target = wrong ? aside.data() : to;
  std::uint64_t place = 0;
  for (const Slice& slice : slices_) {
    if (slice.bytes() == 0) continue;
    const std::byte* const from = slice.answer.parts[kVals - 1].bytes.data();
    if (from != target + place) std::memcpy(target + place, from, slice.bytes());
    place += slice.bytes();
  }
  if (wrong) std::memcpy(to, aside.data(), at);
  return {};
}

Status DataRequest::assemble_lens() {
  std::uint64_t total = 0;
  for (const Slice& slice : slices_) total += slice.lens();
  if (given_.pull_lens == 0 || total == 0) return {};
  std::int32_t* const to = given_.place_lens(given_.context, total);
  if (to == nullptr)
    return {Code::kInvalidArgument,
            fmt::format("{} lens came back: the array for them must be empty or fit", total)};
  std::uint64_t at = 0;
  for (const Slice& slice : slices_) {
    if (slice.lens() == 0) continue;
    std::memcpy(to + at, slice.answer.parts[kLens - 1].bytes.data(),
                slice.lens() * sizeof(std::int32_t));
    at += slice.lens();
  }
  return {};
}

}  // namespace penstock::pslite
